"""Sweeps: one job for each combination of values. One that fails says so at once, and the others run."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from aloll_cli.cli.execution import compare
from aloll_cli.cli.jobs import FAILURES, checked, run_stage, said_of, without_hydra
from aloll_cli.cli.overrides import explained, parsed
from aloll_cli.cli.validation import build, register
from aloll_cli.command import Command
from aloll_cli.comparison.grouping import chosen_keys
from aloll_cli.errors import UserError
from aloll_cli.runtime.rendezvous import size
from aloll_cli.runtime.terminal import Log
from aloll_cli.schema import flatten, plain
from aloll_cli.settings.groups import GROUPS
from aloll_cli.settings.launchers import LAUNCHERS
from aloll_cli.settings.root import Settings

if TYPE_CHECKING:
    from aloll_cli.cli.composition import Composer

EVALUATING = ("evaluate", "run")


@dataclass(frozen=True)
class Failed:
    """The result of a job that failed, and has said why."""

    words: str  # what it was called with


class Task:
    """What Hydra calls for each job of a sweep; a plain object, so that launchers can send it to other processes."""

    def __init__(self, command: Command, goes_on: bool) -> None:
        """``goes_on``: whether a job that fails ends by itself; a sweeper that learns from results needs a number of each."""
        self.command, self.goes_on = command, goes_on

    def __call__(self, cfg: DictConfig) -> Any:
        register(Settings, GROUPS)  # a launcher may have sent it to another process
        # what only this job has; the rest was typed
        words = shlex.join(word for word in HydraConfig.get().overrides.task if word not in self.command.arguments)
        try:
            return run_stage(self.command, checked(self.command.stage, cfg), more_follow=True)
        except FAILURES as error:
            if not self.goes_on:
                raise
            if found := said_of(error, [*self.command.arguments, words]):
                sys.stderr.write(found.told(f"aloll {self.command.stage} ({words}): ") + "\n")
            return Failed(words)


def sweep(command: Command, composer: Composer, overrides: list[str]) -> None:
    """One job for each combination of values; ends with a comparison where the stage evaluates."""
    cfg = composer.config(overrides, multirun=True)
    is_ours = OmegaConf.get_type(cfg.hydra.launcher) in LAUNCHERS.values()
    _check_jobs(composer, overrides, warns=not is_ours)
    launcher, sweeper = (cfg.hydra.runtime.choices[f"hydra/{part}"] for part in ("launcher", "sweeper"))
    if composer.folders and launcher != "basic" and not is_ours:
        # its processes could not read the configurations of plugins' classes
        raise UserError(f"hydra/launcher={launcher} cannot start jobs with plugins.", "hydra/launcher=basic")
    if is_ours and size() > 1:
        what = f"{size()} processes were started together, and hydra/launcher={launcher} starts the processes of its jobs itself."
        raise UserError(what, "Leave out torchrun, accelerate launch or srun.")
    try:
        task = Task(command, goes_on=sweeper == "basic")
        batches = composer.hydra.multirun(config_name=composer.name, task_function=task, overrides=overrides)
    except (HydraException, OmegaConfBaseException) as error:
        raise explained(error) from error
    jobs: list[JobReturn] = [job for batch in batches or [] for job in batch]
    results = [job.return_value for job in jobs]
    failed = [result.words for result in results if isinstance(result, Failed)]
    whole = [job.cfg for job, result in zip(jobs, results, strict=True) if not isinstance(result, Failed)]
    finished = [build(without_hydra(cfg), Settings) for cfg in whole if cfg is not None]
    if command.stage in EVALUATING and len(finished) > 1:
        compare(command, finished)
    if failed:
        what = f"{len(failed)} of {len(jobs)} jobs failed, for the reasons above: {'; '.join(failed)}."
        raise UserError(what, f"Correct them and repeat the command, which keeps what is finished: {command}")


def _check_jobs(composer: Composer, overrides: list[str], warns: bool) -> None:
    """Compose every job of a plain sweep, so that a mistake in the last is found before the first one starts.

    Args:
        composer: of this command.
        overrides: of the sweep.
        warns: whether one job alone is likely a mistake.
    """
    sweeper = composer.config(overrides, multirun=True).hydra.sweeper
    presets = [f"{key}={values}" for key, values in (sweeper.get("params") or {}).items()]  # of an experiment
    found = parsed(composer.hydra, composer.stage, [*presets, *overrides], multirun=True)
    if any(override.is_sweep_override() and not override.is_discrete_sweep() for override in found):
        return  # another sweeper's ranges
    jobs = [list(job) for batch in BasicSweeper.split_arguments(found, None) for job in batch]
    if not jobs:
        raise UserError("the sweep has no jobs: one of its lists is empty.", "-m key=a,b")
    configurations = [
        composer.settings([str(one.input_line) for one in parsed(composer.hydra, composer.stage, job, multirun=False)])
        for job in jobs
    ]
    if warns and len(jobs) == 1:
        Log().warn("-m runs once for each combination of the values in OPTION=a,b; here no option has several values")
    if configurations[0].options_chosen:
        chosen_keys(configurations[0].options_chosen, [flatten(plain(settings)) for settings in configurations])
