"""One job: a composed configuration as dataclasses, and its stage, in this process or in several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from omegaconf import DictConfig, open_dict

from aloll_cli.cli.execution import execute
from aloll_cli.cli.joining import share
from aloll_cli.cli.launching import WorkersFailed, run_workers
from aloll_cli.cli.validation import build
from aloll_cli.command import Command
from aloll_cli.errors import UserError
from aloll_cli.files import of_a_user, of_the_system
from aloll_cli.runtime.rendezvous import size
from aloll_cli.settings.checks import check
from aloll_cli.settings.root import Settings
from aloll_cli.stages import STAGES

FAILURES = (UserError, WorkersFailed, OSError, RuntimeError)  # what ends one job of a sweep, and no other


def run_stage(command: Command, settings: Settings, more_follow: bool = False) -> Any:
    """Run a stage in this process, in as many as ``processes`` says, or in those that were started with this one."""
    if settings.processes > 1 and size() == 1:
        return run_workers(command, settings)
    share(command, settings)
    return execute(command, settings, more_follow)


def said_of(error: Exception, words: Sequence[str]) -> UserError | None:
    """What to say of one of FAILURES; None where the workers of the job have said it. Raises any other error again.

    Args:
        error: what ended the job.
        words: of the command line.
    """
    if isinstance(error, WorkersFailed):
        return None
    if isinstance(error, OSError):
        return of_the_system(error)
    return of_a_user(error, words) if isinstance(error, RuntimeError) else cast(UserError, error)


def checked(stage: str, cfg: DictConfig) -> Settings:
    """A composed configuration as dataclasses; what a stage makes of it, it can be made of."""
    settings = build(without_hydra(cfg), Settings)
    if stage in STAGES:
        check(settings, STAGES[stage].makes)
    return settings


def without_hydra(cfg: DictConfig) -> DictConfig:
    with open_dict(cfg):
        cfg.pop("hydra", None)
    return cfg
