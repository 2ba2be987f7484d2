"""One job: a composed configuration as dataclasses, and its stage, in this process or in several."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig, open_dict

from aloll_cli.cli.execution import execute
from aloll_cli.cli.joining import share
from aloll_cli.cli.launching import run_workers
from aloll_cli.cli.validation import build
from aloll_cli.command import Command
from aloll_cli.runtime.rendezvous import size
from aloll_cli.settings.checks import check
from aloll_cli.settings.root import Settings
from aloll_cli.stages import STAGES


def run_stage(command: Command, settings: Settings, more_follow: bool = False) -> Any:
    """Run a stage in this process, in as many as ``processes`` says, or in those that were started with this one."""
    if settings.processes > 1 and size() == 1:
        return run_workers(command, settings)
    share(command, settings)
    return execute(command, settings, more_follow)


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
