"""Where the jobs of a sweep run: options of Hydra's launchers that are ours.

Names and meanings are those of hydra-submitit-launcher and hydra-joblib-launcher, which launch no job here: they pickle Hydra's
state into each of them, wait for results in the order of the jobs, and requeue in the middle of a training step.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from aloll_cli.errors import UserError
from aloll_cli.schema import COUNT, numbers

GROUP, KEY = "hydra/launcher", "hydra.launcher"
LIMIT = "hydra.launcher.timeout_min"


@dataclass(kw_only=True)
class SubmititSlurm:
    """An array of SLURM jobs, submitted by submitit."""

    timeout_min: int = field(metadata=numbers("[1, 525600]", 60))
    stop_before_s: int = field(metadata=numbers("[1, 86400]", 120))
    max_num_timeout: int = field(metadata=numbers("[0, 10000]", 20))
    cpus_per_task: int = field(metadata=numbers("[1, 4096]", 4))
    mem_gb: float | None = field(metadata=numbers("(0, 65536]", 16))
    gpus_per_node: int | None = field(metadata=numbers("[1, 64]", 1))
    array_parallelism: int = field(metadata=COUNT)
    partition: str | None
    account: str | None
    qos: str | None
    constraint: str | None
    setup: list[str]
    additional_parameters: dict[str, Any]
    _target_: str = "hydra_plugins.aloll.SubmititSlurm"

    def __post_init__(self) -> None:
        if self.stop_before_s >= 60 * self.timeout_min:
            limit = f"{self.timeout_min} minute{'s' * (self.timeout_min > 1)}"
            what = f"jobs that stop {self.stop_before_s} seconds before their limit of {limit} would never run."
            raise UserError(what, f"{LIMIT}=60 hydra.launcher.stop_before_s=120")
        taken = {"time": LIMIT, "array": "the values of the sweep", "requeue": "hydra.launcher.max_num_timeout=0 for none"}
        taken |= {"signal": "hydra.launcher.stop_before_s"}
        for name in self.additional_parameters:
            if (plain := str(name).replace("_", "-")) in taken:
                raise UserError(f"hydra.launcher.additional_parameters has {plain}, which is set by other options.", taken[plain])


@dataclass(kw_only=True)
class Joblib:
    """Several jobs at a time on this machine, each in a process of its own, scheduled by joblib."""

    n_jobs: int = field(metadata=numbers("[-1024, 1024]", 2))
    gpus: list[int] = field(metadata=numbers("[0, 1023]"))
    _target_: str = "hydra_plugins.aloll.Joblib"

    def __post_init__(self) -> None:
        if self.n_jobs == 0:
            raise UserError("hydra.launcher.n_jobs is 0.", "hydra.launcher.n_jobs=2, or -1 for as many as there are cores")
        if len(set(self.gpus)) < len(self.gpus):
            raise UserError(f"hydra.launcher.gpus={self.gpus} names a GPU twice.", "hydra.launcher.gpus=[0,1]")
        if self.gpus and not 0 < self.n_jobs <= len(self.gpus):
            what = f"hydra.launcher.n_jobs={self.n_jobs} jobs at a time do not have a GPU each."
            raise UserError(what, f"hydra.launcher.n_jobs={len(self.gpus)}")


LAUNCHERS: dict[str, type] = {"joblib": Joblib, "submitit_slurm": SubmititSlurm}
