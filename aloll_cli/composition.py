"""Hydra's part of the command line: compose, check, and hand dataclasses to a stage."""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_automatic_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.utils import JobReturn
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from aloll_cli.cli import compare, execute
from aloll_cli.command import Command
from aloll_cli.config import build, declared_keys, register, unknown_key
from aloll_cli.errors import UserError
from aloll_cli.launching import WorkersFailed, run_workers
from aloll_cli.overrides import explained, parsed
from aloll_cli.settings import GROUPS, Settings
from aloll_cli.stages import STAGES

CONFIG = "config"
EVALUATING = ("evaluate", "run")


class _Parser(argparse.ArgumentParser):
    """The flags; whatever has a key is an override."""

    def __init__(self, stage: str) -> None:
        super().__init__(f"aloll {stage}", add_help=False, allow_abbrev=False)
        self.add_argument("overrides", nargs="*", metavar="key=value")
        self.add_argument("-h", "--help", action="store_true", help="groups and options")
        self.add_argument("-m", "--multirun", action="store_true", help="one run for each combination of key=a,b")
        self.add_argument("-q", "--quiet", action="store_true", help="warnings, errors and results only")
        self.add_argument("-v", "--verbose", action="store_true", help="say more")
        self.add_argument("-c", "--cfg", choices=["job", "hydra", "all"], help="show the configuration and leave")
        self.add_argument("--resolve", action="store_true", help="with --cfg: interpolations resolved")
        self.add_argument("-p", "--package", help="with --cfg: this part of it")
        self.add_argument("-cn", "--config-name", help="another root file than config")
        self.add_argument("-cd", "--config-dir", help="a folder with YAML of your own")
        self.add_argument("--hydra-help", action="store_true", help="Hydra's own help")

    def error(self, message: str) -> NoReturn:
        flags = [flag for action in self._actions for flag in action.option_strings if flag.startswith("--")]
        found = re.search(r"unrecognized arguments: (\S+)", message)
        close = difflib.get_close_matches(found[1], flags, n=1) if found else []
        what = f"there is no flag {found[1]}." if found else f"{message}."
        raise UserError(
            what, f"Did you mean {close[0]}?" if close else f"{self.prog} --help lists options; flags: {', '.join(flags)}."
        )


def enter_hydra(command: Command) -> int:
    """Parse, compose and run; returns the exit code.

    Raises:
        UserError: whatever is wrong with the command line or the configuration.
        Interrupted: a signal, or the end of ``max_hours``.
    """
    parser = _Parser(command.stage)
    args = parser.parse_intermixed_args(list(command.arguments))
    # the second reward is chosen from the same group as the first
    args.overrides = [re.sub(r"^(\+*)test_reward=", r"\1reward@test_reward=", override) for override in args.overrides]
    if args.quiet and args.verbose:
        raise UserError("-q and -v contradict each other.", str(command.but(command.stage, "-q", "--quiet")))
    args.overrides += ["verbosity=quiet"] * args.quiet + ["verbosity=verbose"] * args.verbose
    register(Settings, GROUPS)
    search_path = create_automatic_config_search_path(None, None, "pkg://aloll_cli.conf")
    if args.config_dir:
        folder = Path(args.config_dir).resolve()
        if not folder.is_dir():
            raise UserError(f"--config-dir {args.config_dir}: there is no such folder.", "--config-dir FOLDER")
        search_path.prepend("command-line", f"file://{folder}", SearchPathQuery(provider="schema"))
    GlobalHydra.instance().clear()  # a second command in the same process
    hydra = Hydra.create_main_hydra2(task_name=command.stage, config_search_path=search_path)
    name = args.config_name or CONFIG
    parsed(hydra, args.overrides, args.multirun)
    if args.hydra_help:
        hydra.hydra_help(config_name=name, args_parser=parser, args=args)
        return 0
    compose = lambda: hydra.compose_config(  # noqa: E731
        config_name=name, overrides=args.overrides, run_mode=RunMode.MULTIRUN if args.multirun else RunMode.RUN
    )
    if args.help:
        _show_help(command.stage, hydra, _translated(compose, hydra, name))
        return 0
    if args.cfg:
        _translated(compose, hydra, name)
        hydra.show_cfg(config_name=name, overrides=args.overrides, cfg_type=args.cfg, package=args.package, resolve=args.resolve)
        return 0
    try:
        if args.multirun:
            _sweep(command, hydra, name, args.overrides)
        else:
            run_stage(command, build(_without_hydra(_translated(compose, hydra, name)), Settings))
    except WorkersFailed as failure:
        return failure.code
    return 0


HELP = """aloll {stage}: {what}

usage: aloll {stage} [group=choice] [key=value] …

Groups, with the choice of this command line first:
{groups}

Options, as this command line sets them (the files in conf/ say what each means):
{options}

Also: -m for a sweep (key=a,b), -q, -v, --cfg job, --config-dir FOLDER with YAML of your own, --hydra-help.
"""


def _show_help(stage: str, hydra: Hydra, cfg: DictConfig) -> None:
    """The stage's groups and options."""
    choices = cfg.hydra.runtime.choices
    groups = [group for group in hydra.list_all_config_groups() if not group.startswith(("hydra", "schema"))]
    lines = []
    for group in groups:
        chosen = str(choices[group])
        others = [option for option in hydra.config_loader.get_group_options(group) if option != chosen]
        lines.append(f"  {group:11} {', '.join([chosen, *others])}")
    options = OmegaConf.to_yaml(_without_hydra(cfg)).rstrip().replace("\n", "\n  ")
    sys.stdout.write(HELP.format(stage=stage, what=STAGES[stage], groups="\n".join(lines), options=f"  {options}"))


def run_stage(command: Command, settings: Settings) -> Any:
    """Run a stage in this process, or in as many as ``processes`` says."""
    return execute(command, settings) if settings.processes == 1 else run_workers(command, settings)


class _Task:
    """What Hydra calls for each job of a sweep; a plain object, so that launchers can send it to other processes."""

    def __init__(self, command: Command) -> None:
        self.command = command

    def __call__(self, cfg: DictConfig) -> Any:
        register(Settings, GROUPS)
        settings = build(_without_hydra(cfg), Settings)
        return run_stage(self.command, settings)


def _sweep(command: Command, hydra: Hydra, name: str, overrides: list[str]) -> None:
    """One job for each combination of values; ends with a comparison where the stage evaluates."""
    _translated(lambda: _check_jobs(hydra, name, overrides), hydra, name)
    batches = _translated(
        lambda: hydra.multirun(config_name=name, task_function=_Task(command), overrides=overrides), hydra, name
    )
    jobs: list[JobReturn] = [job for batch in batches or [] for job in batch]
    finished = [build(_without_hydra(job.cfg), Settings) for job in jobs if job.cfg is not None]
    if command.stage in EVALUATING and len(finished) > 1:
        compare(command, finished)


def _check_jobs(hydra: Hydra, name: str, overrides: list[str]) -> None:
    """Compose every job of a plain sweep, so that a mistake in the last is found before the first one starts."""
    found = parsed(hydra, overrides, multirun=True)
    if any(override.is_sweep_override() and not override.is_discrete_sweep() for override in found):
        return  # another sweeper's ranges
    for batch in BasicSweeper.split_arguments(found, None):
        for job in batch:
            parsed(hydra, list(job), multirun=False)
            cfg = hydra.compose_config(config_name=name, overrides=list(job), run_mode=RunMode.RUN)
            build(_without_hydra(cfg), Settings)


def _without_hydra(cfg: DictConfig) -> DictConfig:
    from omegaconf import open_dict

    with open_dict(cfg):
        cfg.pop("hydra", None)
    return cfg


def _translated(action: Callable[[], Any], hydra: Hydra, name: str) -> Any:
    """Run something of Hydra's; its own complaints become two lines."""
    try:
        return action()
    except (HydraException, OmegaConfBaseException, YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise _as_user_error(error, hydra, name) from None


def _as_user_error(error: Exception, hydra: Hydra, name: str) -> UserError:
    if found := re.match(r"Could not override '([^']+)'", str(error)):
        plain_config = hydra.compose_config(config_name=name, overrides=[], run_mode=RunMode.RUN)
        return unknown_key(found[1], declared_keys(_without_hydra(plain_config)))
    return explained(error)
