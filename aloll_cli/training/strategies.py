"""The choice of how processes train a policy together, as ``strategy=`` says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aloll_cli.runtime.options import Strategy
from aloll_cli.training.parallel import Parallel, replicated

if TYPE_CHECKING:
    from aloll_cli.models.logprobs import ResponseLogps
    from aloll_cli.models.optimizers import Adamw
    from aloll_cli.store.store import Job


def parallel(module: ResponseLogps, optimizer: Adamw, job: Job) -> Parallel:
    """A policy that the processes of a job train; one process has nobody to share it with.

    Raises:
        UserError: it cannot be sharded.
    """
    if job.world.size > 1 and job.runtime.strategy is Strategy.fsdp:
        from aloll_cli.training.fsdp import Fsdp

        return Fsdp(module, optimizer, job.world)
    return replicated(module, optimizer, job)
