"""The help of a stage: its own options, each with its value, range and description; then its groups with their choices."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from aloll_cli.cli.flags import ALL, FLAGS
from aloll_cli.cli.layout import entry, wrapped
from aloll_cli.cli.options import MISSING, SECOND, Catalogue, Option
from aloll_cli.schema import flatten
from aloll_cli.stages import STAGES, Stage, running, upstream


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
        name, stage, before = self._stage, STAGES[self._stage], upstream(self._stage)
        groups = "[GROUP=CHOICE] " if stage.groups or before else ""
        lines = [*wrapped(f"aloll {name}: {stage.what}"), "", f"usage: aloll {name} {groups}[OPTION=VALUE] … [FLAG] …"]
        shown: set[str] = set()
        lines += self._section(name, stage, shown)
        if everything:
            for other in before:
                lines += self._section(other, STAGES[other], shown)
        folds = stage.makes and not everything
        if not folds:
            lines += self._section("all stages", running(name), shown)
        else:
            lines += ["", *wrapped(f"Options of all stages that build artifacts (aloll {name} --help all says more):")]
            lines += wrapped(" ".join(f"{key}={_written(self._values[key])}" for key in running(name).options), "  ")
        if stage.makes:
            names = ", ".join(self._catalogue.names("experiment"))
            lines += ["", *wrapped(f"Sets of options for one experiment: experiment=NAME, of {names}.")]
        if before and not everything:
            lines += ["", *wrapped(f"The stages before it have more options ({', '.join(before)}): aloll {name} --help all")]
        flags = [(flag.shown, flag.what) for flag in FLAGS]
        flags[1:1] = [ALL] if before or folds else []
        lines += ["", "Flags:", *(line for flag, what in flags for line in entry(flag, what))]
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
        return entry(f"{key}={value}", option.what if option else "", allowed(option) if option else "")

    def _group(self, group: str) -> Iterator[str]:
        about, names = self._catalogue.about(group), self._catalogue.names(group)
        if group in SECOND:
            yield from entry(f"{group}={self._choices[group]}", f"{about} ({', '.join(names)})")
            return
        yield from entry(f"{group}={self._choices[group]}", about)
        chosen = self._choices[group]
        if chosen in names and (background := self._catalogue.choice(group, chosen).background):
            yield from wrapped(f"{chosen}: {background}", "    ")
        column = max(map(len, names)) + 6
        for name in names if len(names) > 1 else ():
            yield from entry(f"  {name}", self._catalogue.choice(group, name).what, column=column)


def allowed(option: Option) -> str:
    """Which values an option may have, unless its description names them all."""
    named = option.values and all(value in option.what for value in option.values if value != "null")
    return "" if named or set(option.values) == {"true", "false"} else option.allowed


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
