"""How the processes of a command train one model together: which of them hold its weights, gradients and optimizer states."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from aloll_cli.training.averaging import average_in_order_of_ranks
from aloll_cli.training.checkpoints import is_shared, load_state, save_state

if TYPE_CHECKING:
    from aloll_cli.models.dropout import InTraining
    from aloll_cli.models.optimizers import Adamw
    from aloll_cli.store.store import Job


class Parallel(ABC):
    """A model in training, with its optimizer.

    Attributes:
        module: what is called for losses that are trained on.
        optimizer: of the weights that this process holds.
        holds_whole: whether this process holds all weights all the time.
    """

    module: Any
    optimizer: torch.optim.Optimizer
    holds_whole = True

    @abstractmethod
    def accumulating(self, last: bool) -> AbstractContextManager[Any]:
        """The context of a micro-batch, the last of this process's share of a step or an earlier one."""

    @abstractmethod
    def backward(self, loss: Tensor) -> None:
        """Add the gradient of a micro-batch's part of a step's loss, which is the sum of such parts over all processes."""

    def missing(self, count: int) -> int:
        """How many micro-batches of another process this one has to take part in, besides ``count`` of its own.

        To be called before the first of a step, by every process.
        """
        return 0

    def take_part(self, missing: int) -> None:  # noqa: B027  where weights are whole no process waits for another
        """Take part in so many micro-batches of another process, after the own ones."""

    @abstractmethod
    def clip(self, max_norm: float | None) -> float:
        """Scale the gradient down to ``max_norm``, where it is longer; returns the norm that it had."""

    def whole(self) -> AbstractContextManager[Any]:
        """The context in which the model computes without gradients, as often as each process likes."""
        return nullcontext()

    @abstractmethod
    def gathered(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights of the model by name, whole, in the main process; every process must call this, and not within ``whole``."""

    @abstractmethod
    def save(self, folder: Path | None) -> None:
        """Save the trained weights and the optimizer's state of each; every process must call this.

        Args:
            folder: of the checkpoint; None in all but the main process.
        """

    @abstractmethod
    def load(self, folder: Path) -> None:
        """Load what any way of training has saved, by any number of processes.

        Raises:
            UserError: the checkpoint is of another model.
        """


class Single(Parallel):
    """A single process, which holds everything."""

    def __init__(self, module: InTraining, optimizer: Adamw) -> None:
        self.module = self._inner = module
        self.optimizer = optimizer.build(module.parameters())

    def accumulating(self, last: bool) -> AbstractContextManager[Any]:
        return nullcontext()

    def backward(self, loss: Tensor) -> None:
        loss.backward()  # type: ignore[no-untyped-call]

    def clip(self, max_norm: float | None) -> float:
        return float(torch.nn.utils.clip_grad_norm_(self._inner.parameters(), math.inf if max_norm is None else max_norm))

    def gathered(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: weight.detach() for name, weight in weights.items()}

    def save(self, folder: Path | None) -> None:
        if folder is not None:
            save_state(folder, self._inner, self.optimizer)

    def load(self, folder: Path) -> None:
        if is_shared(folder):
            from aloll_cli.training.shards import load

            load(folder, self._inner, self.optimizer)
        else:
            load_state(folder, self._inner, self.optimizer)


class Ddp(Single):
    """Every process holds everything, and averages gradients with the others (torch's DistributedDataParallel)."""

    def __init__(self, module: InTraining, optimizer: Adamw, job: Job) -> None:
        super().__init__(module, optimizer)
        device, self._processes = job.world.device, job.world.size
        of_gpu = [device.index] if device.type == "cuda" else None
        self.module = torch.nn.parallel.DistributedDataParallel(module, device_ids=of_gpu)
        reproducible = job.runtime.deterministic or device.type == "cpu"
        if job.world.size > 2 and reproducible:  # a sum of two has one order
            self.module.register_comm_hook(None, average_in_order_of_ranks)

    def accumulating(self, last: bool) -> AbstractContextManager[Any]:
        context: AbstractContextManager[Any] = nullcontext() if last else self.module.no_sync()
        return context

    def backward(self, loss: Tensor) -> None:
        super().backward(loss * self._processes)  # DDP averages over processes


def replicated(module: InTraining, optimizer: Adamw, job: Job) -> Parallel:
    """A model that each process holds."""
    return Single(module, optimizer) if job.world.size == 1 else Ddp(module, optimizer, job)
