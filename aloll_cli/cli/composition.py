"""Hydra's part of the command line: compose, check, and hand dataclasses to a stage."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_automatic_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from aloll_cli.cli.filters import filtered
from aloll_cli.cli.help import StageHelp
from aloll_cli.cli.hints import unknown, unknown_of_launcher
from aloll_cli.cli.jobs import checked, run_stage, without_hydra
from aloll_cli.cli.launchers import offer, options_of
from aloll_cli.cli.launching import WorkersFailed
from aloll_cli.cli.options import SECOND, Catalogue
from aloll_cli.cli.overrides import choices, explained, named_plugins, no_schema, parsed
from aloll_cli.cli.parsing import Parser
from aloll_cli.cli.quoting import plugins_override, with_quotes
from aloll_cli.cli.recorded import recorded
from aloll_cli.cli.showing import annotated, chosen
from aloll_cli.cli.sweeps import sweep
from aloll_cli.cli.unassigned import check_assigned
from aloll_cli.cli.validation import check_declared, declared_keys, missing_keys, register
from aloll_cli.command import Command
from aloll_cli.errors import UserError
from aloll_cli.runtime.rendezvous import size
from aloll_cli.settings.groups import GROUPS
from aloll_cli.settings.launchers import GROUP as LAUNCHER
from aloll_cli.settings.launchers import KEY as LAUNCHER_KEY
from aloll_cli.settings.plugins import load_plugins
from aloll_cli.settings.root import Settings

CONFIG = "config"
CHOICE = re.compile(rf"\+?({'|'.join(GROUPS)}|experiment|reward@[\w.]+|{LAUNCHER})=")
PART = re.compile(r"\+*(?P<part>(?P<role>(?:test_)?reward)\.parts\.\w+)(?:\.reward)?=")
OF_PART = re.compile(r"\+*(?P<part>(?P<role>(?:test_)?reward)\.parts\.(?P<name>\w+))\.")


def enter_hydra(command: Command) -> int:
    """Parse, compose and run; returns the exit code.

    Raises:
        UserError: whatever is wrong with the command line or the configuration.
        Interrupted: a signal, or the end of ``max_hours``.
    """
    parser = Parser(command)
    args = parser.parsed()
    if args.quiet and args.verbose:
        raise UserError("-q and -v contradict each other.", "-q for results only, or -v for details")
    if not args.cfg and (args.resolve or args.package):
        raise UserError(
            "--resolve and --package belong to --cfg.", f"aloll {command.stage} --cfg job --resolve --package variant"
        )
    everything = args.help and "all" in args.overrides
    if everything:
        args.overrides.remove("all")
    said = ["verbosity=quiet"] * args.quiet + ["verbosity=verbose"] * args.verbose
    composer, typed = composing(command.stage, args.config_name or CONFIG, args.config_dir, args.overrides)
    overrides = composer.parsed([*typed, *said, *_started_together(typed)], args.multirun)
    if args.hydra_help:
        composer.hydra.hydra_help(config_name=composer.name, args_parser=parser, args=args)
    elif args.help:
        cfg = composer.config(overrides, args.multirun)
        choices, values = chosen(cfg.hydra.runtime.choices), OmegaConf.to_container(without_hydra(cfg), enum_to_str=True)
        catalogue = Catalogue([Path(args.config_dir)] if args.config_dir else [], composer.folders)
        sys.stdout.write(StageHelp(command.stage, catalogue, cast(dict[str, Any], values), choices).text(everything))
    elif args.cfg:
        _show_config(composer.config(overrides, args.multirun), args.cfg, args.package, args.resolve)
    else:
        try:
            if args.multirun:
                sweep(command, composer, overrides)
            else:
                _refuse_launchers(command, overrides)
                run_stage(command, composer.settings(overrides))
        except WorkersFailed as failure:
            return failure.code
    return 0


def _refuse_launchers(command: Command, overrides: list[str]) -> None:
    """Raises UserError where a launcher is named and there is no sweep, which would run here."""
    for word in overrides:
        if word.startswith(f"{LAUNCHER}=") and word != f"{LAUNCHER}=basic":
            raise UserError(f"{word} is for the jobs of a sweep; this command would run here.", f"Add -m: {command} -m")


def _started_together(typed: Sequence[str]) -> list[str]:
    """``processes=`` where somebody else has started them. Raises UserError if the command line says another number."""
    count = size()
    if count == 1:
        return []
    if other := next((word for word in typed if word.startswith("processes=") and word != f"processes={count}"), None):
        raise UserError(f"{other}, but {count} processes were started together.", "Leave out processes=.")
    return [f"processes={count}"]


def settings_of(overrides: list[str], plugins: Sequence[str] = (), config_dir: str | None = None) -> Settings:
    """The settings of a command line and folders of plugins, for whatever stage they are used in.

    Raises:
        UserError: whatever is wrong with an override or the configuration.
    """
    try:
        more = [plugins_override(plugins)] if plugins else []
        composer, typed = composing("compose", CONFIG, config_dir, [*overrides, *more])
        return composer.settings(composer.parsed(typed, multirun=False))
    finally:
        GlobalHydra.instance().clear()  # for whoever else uses Hydra in this process


def composing(stage: str, name: str, config_dir: str | None, words: Sequence[str]) -> tuple[Composer, list[str]]:
    """What composes a command line, and its overrides: those of the run that ``run=`` names first.

    Raises:
        UserError: there is no such run, or the plugins cannot be read.
    """
    typed = with_quotes(filtered(stage, words))
    run = recorded(typed)
    plugins = named_plugins(typed)
    composer = Composer(stage, name, config_dir, plugins if plugins or run is None else run.plugins)
    return composer, typed if run is None else [*run.words(typed, composer), *typed]


class Composer:
    """Hydra over our configuration; what it has against one becomes a UserError."""

    # what Hydra and the YAML files of a user's own may raise
    COMPLAINTS = (HydraException, OmegaConfBaseException, YAMLError, RecursionError, ValueError, TypeError, AssertionError)

    def __init__(self, stage: str, name: str, config_dir: str | None, plugins: list[str]) -> None:
        """Read plugins, and set Hydra up to compose.

        Args:
            stage: its name.
            name: of the root file.
            config_dir: a folder with YAML of the user's own.
            plugins: the folders of plugins as the user named them; those of installed packages join them.
        """
        self.folders = load_plugins(plugins)
        register(Settings, GROUPS)
        search_path = create_automatic_config_search_path(None, None, "pkg://aloll_cli.conf")
        if config_dir is not None:
            folder = Path(config_dir).resolve()
            if not folder.is_dir():
                raise UserError(f"--config-dir {config_dir}: there is no such folder.", "--config-dir FOLDER")
            # before the package's own: a file of the same name takes its place
            search_path.prepend("command-line", f"file://{folder}", SearchPathQuery(provider="main"))
        self.own_folders = [*([] if config_dir is None else [Path(config_dir).resolve()]), *self.folders]
        for plugin in self.folders:
            search_path.append("plugins", f"file://{plugin}", SearchPathQuery(provider="main"))
        GlobalHydra.instance().clear()  # a second command in the same process
        self.hydra = Hydra.create_main_hydra2(task_name=stage, config_search_path=search_path)
        offer()
        self.stage, self.name, self.plugins = stage, name, plugins

    def config(self, overrides: list[str], multirun: bool = False) -> DictConfig:
        """Composed, its keys and numbers checked; Hydra's own part is still in it."""
        mode = RunMode.MULTIRUN if multirun else RunMode.RUN
        try:
            with warnings.catch_warnings():  # Hydra's advice on writing its files
                warnings.simplefilter("ignore", UserWarning)
                cfg = self.hydra.compose_config(config_name=self.name, overrides=overrides, run_mode=mode)
        except self.COMPLAINTS as error:
            raise self._explained(error, overrides) from error
        for group, entries in GROUPS.items():
            if cfg.get(group) is not None and OmegaConf.get_type(cfg, group) not in entries.values():
                raise no_schema(f"{group}/{cfg.hydra.runtime.choices[group]}.yaml")
        check_declared(without_hydra(cfg.copy()), Settings)
        options_of(cfg)
        return cfg

    def choices(self, group: str) -> Sequence[str]:
        """The choices of a group."""
        return choices(self.hydra, SECOND.get(group, group))

    def values(self, overrides: Sequence[str]) -> dict[str, Any]:
        """The options of a command line, as nested plain values without names of classes."""
        cfg = without_hydra(self.config(self.parsed(list(overrides), multirun=False)))
        return cast(dict[str, Any], OmegaConf.to_container(cfg, enum_to_str=True))

    def settings(self, overrides: list[str]) -> Settings:
        """As the stage takes them."""
        cfg = self.config(overrides)
        check_assigned(list(missing_keys(cfg)), cfg.hydra.runtime.choices, self.own_folders)
        settings = checked(self.stage, cfg)
        if settings.plugins != self.plugins:
            what = "plugins= is set in a YAML file, and is read before those are."
            raise UserError(what, f"On the command line: plugins=[{','.join(settings.plugins)}]")
        return settings

    def parsed(self, overrides: list[str], multirun: bool) -> list[str]:
        """Overrides as Hydra takes them, each checked by itself."""
        # the second reward, and that of a judge, are chosen from the same group as the first
        overrides = [re.sub(r"^(\+*)(test_reward|judge\.reward)=", r"\1reward@\2=", override) for override in overrides]
        found = parsed(self.hydra, self.stage, self._with_parts(overrides), multirun)
        return [str(override.input_line) for override in found]

    def _with_parts(self, overrides: list[str]) -> list[str]:
        """Overrides with the parts of mixtures as Hydra takes them: ``reward.parts.NAME=choice`` chooses from the group too."""
        found = [PART.match(override) for override in overrides]
        options = list(filter(None, map(OF_PART.match, overrides)))
        if not any(found) and not options:
            return overrides
        chosen = [o for o, part in zip(overrides, found, strict=True) if part is None and CHOICE.match(o)]
        cfg = self.config(chosen, multirun=True)
        for part in [*filter(None, found), *options]:
            if OmegaConf.select(cfg, f"{part['role']}.parts") is None:
                what = f"{part['part']} is not an option of this configuration's {part['role']}."
                raise UserError(what, f"Parts belong to {part['role']}=mixed.")
        named = {part["part"] for part in filter(None, found)}
        for option in options:
            parts = OmegaConf.select(cfg, f"{option['role']}.parts")
            if option["part"] not in named and option["name"] not in parts:
                listed = f" Parts here: {', '.join(parts)}." if parts else ""
                raise UserError(f"{option['part']} has no reward.", f"Choose one: {option['part']}=vader.{listed}")
        there = cfg.hydra.runtime.choices
        places = [f"reward@{part['part']}.reward" if part else "" for part in found]
        return [
            f"{'' if place in there else '+'}{place}={override.partition('=')[2]}" if place else override
            for override, place in zip(overrides, places, strict=True)
        ]

    def _explained(self, error: Exception, overrides: list[str]) -> UserError:
        found = re.match(r"Could not override '([^']+)", str(error))
        if found is None:
            return explained(error)
        if found[1] == "reward@judge.reward":
            return UserError("judge.reward is not an option of this configuration's judge.", "It belongs to judge=reward.")
        choices = [override for override in overrides if CHOICE.match(override)]
        typed = next((o.partition("=")[2] for o in overrides if o.lstrip("+").startswith(f"{found[1]}=")), "")
        if found[1].startswith(f"{LAUNCHER_KEY}."):
            launcher = self.config(choices).hydra.launcher
            return unknown_of_launcher(found[1].removeprefix(f"{LAUNCHER_KEY}."), typed, OmegaConf.get_type(launcher))
        known = declared_keys(without_hydra(self.config(choices)))
        group, _, option = found[1].partition(".")
        owners = [name for name, cls in GROUPS.get(group, {}).items() if option in {f.name for f in fields(cls)}]
        if owners and found[1] not in known:
            return UserError(
                f"{found[1]} is not an option of this configuration's {group}.", f"It belongs to {group}={' or '.join(owners)}."
            )
        return unknown(found[1], typed, [*known, *GROUPS], self.stage)


def _show_config(cfg: DictConfig, part: str, package: str | None, resolve: bool) -> None:
    """The configuration, Hydra's or both, as YAML; a comment names the choice of each group."""
    places = chosen(cfg.hydra.runtime.choices)
    shown: Any = {"job": without_hydra(cfg.copy()), "hydra": cfg.hydra, "all": cfg}[part]
    if package is not None:
        shown = OmegaConf.select(shown, package)
        if not OmegaConf.is_config(shown):
            raise UserError(f"--package {package}: the configuration has no such part.", "--package variant")
        heading = f"# {package}={places[package]}\n" if package in places else ""
        places = {
            place.removeprefix(f"{package}."): choice for place, choice in places.items() if place.startswith(f"{package}.")
        }
        sys.stdout.write(heading)
    try:
        sys.stdout.write(annotated(OmegaConf.to_yaml(shown, resolve=resolve), places))
    except OmegaConfBaseException as error:
        raise explained(error) from None
