"""Our launchers for Hydra: they compose every job of a sweep, and hand settings, not Hydra, to the process that runs it."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import tempfile
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from aloll_cli.cli.hints import unknown_of_launcher
from aloll_cli.cli.jobs import checked, without_hydra
from aloll_cli.cli.queued import RESULTS, Order, Outcome
from aloll_cli.cli.side_by_side import SideBySide
from aloll_cli.cli.slurm import Cluster, check_cluster, check_fits
from aloll_cli.cli.sweeps import Failed, Task
from aloll_cli.cli.validation import build
from aloll_cli.cli.watching import Queue, watch
from aloll_cli.errors import UserError
from aloll_cli.settings.launchers import KEY, LAUNCHERS, Joblib, SubmititSlurm
from aloll_cli.stopping import Interrupted


def options_of(cfg: DictConfig) -> Any:
    """The options of a launcher of ours as a dataclass, checked; None where the configuration has another one.

    Raises:
        UserError: an option is not declared, out of its range, or does not go with another one.
    """
    node = cfg.hydra.launcher
    cls: Any = OmegaConf.get_type(node)
    if cls not in LAUNCHERS.values():
        return None
    for key in node:
        if str(key) not in cls.__dataclass_fields__ or (key == "_target_" and node[key] != _target(cls)):
            raise unknown_of_launcher(str(key), str(node[key]), cls)
    return build(node, cls, f"{KEY}.")


class _Jobs(Launcher):  # type: ignore[misc]
    """Runs each job of a sweep in a process of its own, and waits for all."""

    def __init__(self, **options: Any) -> None:
        """``options`` stand in the configuration, where they were checked."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """What Hydra hands over: with what jobs are composed, what they run, and the configuration of the sweep."""
        assert isinstance(task_function, Task)
        self._loader, self._task, self._config = hydra_context.config_loader, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run jobs; returns what came of each, in their order.

        Raises:
            UserError: they cannot be started, or one failed and the sweeper needs the result of each.
            Interrupted: by a signal, or because ``max_hours`` is over.
        """
        sweep = Path(str(self._config.hydra.sweep.dir))
        sweep.mkdir(parents=True, exist_ok=True)
        root = Path(tempfile.mkdtemp(prefix="jobs-", dir=sweep))
        composed = [self._composed(list(overrides), initial_job_idx + i) for i, overrides in enumerate(job_overrides)]
        shared = set.intersection(*(set(overrides) for overrides in job_overrides))
        names = [shlex.join(word for word in overrides if word not in shared) for overrides in job_overrides]
        orders = [self._order(root / str(i), name, cfg) for i, (name, cfg) in enumerate(zip(names, composed, strict=True))]
        try:
            queue = self.start(root, orders, options_of(self._config))
        except UserError:
            shutil.rmtree(root)
            raise
        outcomes = watch(queue, orders)
        for order in orders:
            if (order.folder / RESULTS).is_file():
                sys.stdout.write((order.folder / RESULTS).read_text(encoding="utf-8", errors="replace"))
        if not any(outcome.failed for outcome in outcomes):
            shutil.rmtree(root, ignore_errors=True)
        if stopped := [outcome.stopped for outcome in outcomes if outcome.stopped]:
            raise Interrupted(0, stopped[0])
        pairs = zip(composed, orders, outcomes, strict=True)
        return [self._returned(*found) for found in pairs]

    @abstractmethod
    def start(self, root: Path, orders: Sequence[Order], options: Any) -> Queue:
        """Start jobs; a folder is for what a launcher has to write beside theirs."""

    def _composed(self, overrides: list[str], number: int) -> DictConfig:
        """The configuration of a job, without Hydra's own part."""
        cfg = self._loader.load_sweep_config(self._config, overrides)
        with open_dict(cfg):
            cfg.hydra.job.id = cfg.hydra.job.num = number
        return without_hydra(cfg)

    def _order(self, folder: Path, name: str, cfg: DictConfig) -> Order:
        command = self._task.command
        return Order(folder, command, name, checked(command.stage, cfg.copy()))

    def _returned(self, cfg: DictConfig, order: Order, outcome: Outcome) -> JobReturn:
        if outcome.failed and not self._task.goes_on:
            raise outcome.error or UserError(f"the job {order.words} failed.", "Its log says why.")
        job = JobReturn(overrides=[order.words], cfg=cfg, working_dir=os.getcwd(), task_name=order.command.stage)
        job.status, job.return_value = JobStatus.COMPLETED, Failed(order.words) if outcome.failed else outcome.value
        return job


class SlurmLauncher(_Jobs):
    """hydra/launcher=submitit_slurm."""

    def start(self, root: Path, orders: Sequence[Order], options: SubmititSlurm) -> Queue:
        check_cluster()
        for order in orders:
            check_fits(order, options)
        return Cluster(root, orders, options)


class SideBySideLauncher(_Jobs):
    """hydra/launcher=joblib."""

    def start(self, root: Path, orders: Sequence[Order], options: Joblib) -> Queue:
        for order in orders:
            if options.gpus and order.settings.processes > 1:
                raise UserError(f"processes={order.settings.processes} share one GPU per job.", "hydra.launcher.gpus=[]")
        return SideBySide(orders, options)


def offer() -> None:
    """Let Hydra know our launchers; those of the same names in other packages step back."""
    store, known = ConfigStore.instance(), Plugins.instance().class_name_to_class
    for (name, cls), launcher in zip(LAUNCHERS.items(), (SideBySideLauncher, SlurmLauncher), strict=True):
        # Hydra takes launchers from the package hydra_plugins alone, to which an editable install cannot add
        known[_target(cls)] = launcher
        store.repo.get("hydra", {}).get("launcher", {}).pop(f"{name}.yaml", None)
        store.store(group="schema/hydra/launcher", name=name, node=cls)


def _target(cls: Any) -> str:
    return str(cls._target_)
