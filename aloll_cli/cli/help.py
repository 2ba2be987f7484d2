"""The help of a stage: its own options, each with its value, range and description; then its groups with their choices."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from aloll_cli.cli.options import MISSING, SECOND, Catalogue, Option
from aloll_cli.schema import flatten
from aloll_cli.stages import RUNNING, RUNNING_GROUPS, STAGES, Stage, upstream

WIDTH = 80
COLUMN = 28  # where descriptions begin

FLAGS = {
    "--help all": "the options of all stages before this one, too",
    "--cfg job": "print the configuration, and leave",
    "-m, --multirun": "one run for each combination of OPTION=a,b",
    "-q, -v": "warnings, errors and results only; more details",
    "--config-dir FOLDER": "a folder with YAML files of your own",
    "--hydra-help": "Hydra's own flags",
}


class StageHelp:
    """The help of one stage, for the configuration that a command line composes."""

    def __init__(self, stage: str, catalogue: Catalogue, values: Mapping[str, Any], choices: Mapping[str, str]) -> None:
        """
        Args:
            stage: its name.
            catalogue: where options are described.
            values: the composed configuration.
            choices: the choice of each group.
        """
        self._stage, self._catalogue, self._values, self._choices = stage, catalogue, flatten(dict(values)), choices

    def text(self, everything: bool) -> str:
        """The help of the stage; ``everything`` adds the options of the stages before it, by stage."""
        name, stage = self._stage, STAGES[self._stage]
        lines = [*_wrapped(f"aloll {name}: {stage.what}"), "", f"usage: aloll {name} [GROUP=CHOICE] [OPTION=VALUE] …"]
        shown: set[str] = set()
        lines += self._section(name, stage, shown)
        before = upstream(name)
        if everything:
            for other in before:
                lines += self._section(other, STAGES[other], shown)
            lines += self._section("all stages", Stage("", RUNNING_GROUPS, RUNNING), shown)
        else:
            lines += ["", "Options of all stages (--help all says more):"]
            values = " ".join(f"{key}={_written(self._values[key])}" for key in RUNNING)
            lines += _wrapped(values, "  ")
        if stage.makes:
            names = ", ".join(self._catalogue.names("experiment"))
            lines += ["", *_wrapped(f"Sets of options for one experiment: experiment=NAME, of {names}.")]
        if before and not everything:
            lines += ["", *_wrapped(f"The stages before it have more options ({', '.join(before)}): aloll {name} --help all")]
        lines += ["", "Flags:", *(line for flag, what in FLAGS.items() for line in _entry(flag, what))]
        return "\n".join(lines) + "\n"

    def _section(self, name: str, stage: Stage, shown: set[str]) -> Iterator[str]:
        """A stage's options and groups, but for those that were shown before."""
        options = [key for key in stage.options if key not in shown]
        groups = [group for group in stage.groups if group not in shown]
        shown |= {*options, *groups}
        listed = [line for key in options for line in self._option(key, self._catalogue.root.get(key))]
        for group in groups:
            described = self._described(group)
            keys = [key for key in self._values if key.startswith(f"{group}.")]
            listed += [line for key in keys for line in self._option(key, described.get(key))]
        if listed:
            yield from ["", f"Options of {name}, as this command line sets them:", *listed]
        if groups:
            yield from ["", f"Groups of {name} (GROUP=CHOICE):"]
        for group in groups:
            yield from self._group(group)

    def _described(self, group: str) -> dict[str, Option]:
        choice = self._choices[group]
        return self._catalogue.choice(group, choice).options if choice in self._catalogue.names(group) else {}

    def _option(self, key: str, option: Option | None) -> list[str]:
        value = _written(self._values[key])
        return _entry(f"{key}={value}", option.what if option else "", allowed(option) if option else "")

    def _group(self, group: str) -> Iterator[str]:
        about, names = self._catalogue.about(group), self._catalogue.names(group)
        if group in SECOND:
            yield from _entry(f"{group}={self._choices[group]}", f"{about} ({', '.join(names)})")
            return
        yield from _entry(f"{group}={self._choices[group]}", about)
        column = max(map(len, names)) + 6
        for name in names if len(names) > 1 else ():
            yield from _entry(f"  {name}", self._catalogue.choice(group, name).what, column=column)


def allowed(option: Option) -> str:
    """Which values an option may have, unless its description names them all."""
    named = option.values and all(value in option.what for value in option.values if value != "null")
    return "" if named or set(option.values) == {"true", "false"} else option.allowed


def _entry(left: str, what: str, more: str = "", column: int = COLUMN) -> list[str]:
    """A name and what it means, wrapped in two columns."""
    text = f"{what} ({more})" if what and more else what or more
    rows = textwrap.wrap(text, WIDTH - column, break_on_hyphens=False, break_long_words=False) or [""]
    first = f"  {left} "
    if len(first) > column:
        return [first.rstrip(), *(" " * column + row for row in rows if row)]
    return [f"{first:{column}}{rows[0]}".rstrip(), *(" " * column + row for row in rows[1:])]


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)


def _written(value: Any) -> str:
    """A value as the command line takes it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, str):
        return value if value and value.isprintable() and not set(value) & set(" {}[],'\"") or value == MISSING else repr(value)
    if isinstance(value, Iterable):
        return f"[{','.join(_written(item) for item in value)}]"
    return str(value)
