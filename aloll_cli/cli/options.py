"""The catalogue of options, read from where they are declared.

Defaults and descriptions come from the YAML files in conf/, types and ranges from the dataclasses. Help, shell completion,
hints and docs/options.md are made from it.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import cache, cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

from aloll_cli.cli.commented import Commented, read
from aloll_cli.schema import Interval
from aloll_cli.settings.groups import GROUPS
from aloll_cli.settings.launchers import GROUP as LAUNCHER
from aloll_cli.settings.launchers import LAUNCHERS
from aloll_cli.settings.root import Settings

SECOND = {"test_reward": "reward"}  # groups of options that are chosen from another group's files
MISSING = "???"
SOURCE = re.compile(r"\(([^()]*\b(?:19|20)\d\d\b[^()]*)\)")  # a publication in a docstring


def entries(group: str) -> dict[str, type]:
    """The classes of a group's choices by name; those of launchers stand in Hydra's own part of the configuration."""
    return LAUNCHERS if group == LAUNCHER else GROUPS[group]


@dataclass(frozen=True)
class Option:
    """One option.

    Attributes:
        key: dotted, from the root.
        default: as YAML writes it; ``???`` where there is none.
        allowed: which values it may have, in words.
        values: all of them with what each means, where there are a few.
        what: what it does.
    """

    key: str
    default: str
    allowed: str
    values: dict[str, str]
    what: str


@dataclass(frozen=True)
class Choice:
    """One choice of a group: a YAML file.

    Attributes:
        group: the folder.
        name: the file, without its ending.
        cls: the dataclass that it fills, or None where the choice is to have none.
        what: what it is.
        example: a command that takes it, or "".
        options: its options by their key, which begins with the group.
        sets: other groups that it chooses from, with what it chooses.
    """

    group: str
    name: str
    cls: Any
    what: str
    example: str
    options: dict[str, Option]
    sets: dict[str, str]

    @property
    def background(self) -> str:
        """What one loss of a variant is of, and the publication that its class names: ``one loss per response, from …``."""
        source = SOURCE.search(inspect.getdoc(self.cls) or "") if self.cls else None
        unit = getattr(self.cls, "unit", "")
        told = [f"one loss per {unit}"] * bool(unit) + ([f"from {' '.join(source[1].split())}"] if source else [])
        return ", ".join(told)


class Catalogue:
    """Every option of the package's configuration files, and of those in folders of a user's own."""

    def __init__(self, before: Sequence[Path] = (), after: Sequence[Path] = ()) -> None:
        """Of files with the same name the first counts: ``before``, the package's, ``after``."""
        self._folders = [*before, Path(str(files("aloll_cli.conf"))), *after]
        self._read: dict[str, Commented] = {}

    @cached_property
    def root(self) -> dict[str, Option]:
        """Options outside of any group."""
        lines = self._file("config").lines
        groups = (*GROUPS, *SECOND)
        return {key: _option(key, Settings, key, line.value, line.comment) for key, line in lines.items() if key not in groups}

    @cached_property
    def defaults(self) -> dict[str, str]:
        """The choice of each group where the command line names none."""
        chosen = {group: choice or "" for group, choice in self._file("config").defaults}
        ours = {group: chosen[f"reward@{group}" if group in SECOND else group] for group in (*GROUPS, *SECOND, "experiment")}
        return ours | {LAUNCHER: "basic"}

    def names(self, group: str) -> list[str]:
        """The choices of a group."""
        folder = SECOND.get(group, group)
        return sorted({file.stem for place in self._folders for file in (place / folder).glob("*.yaml")})

    def about(self, group: str) -> str:
        """What is chosen from a group: what the root file says of it, or the class that its choices share."""
        if group == "experiment":
            return "a set of options for one experiment"
        if group == LAUNCHER:
            return "where the jobs of a sweep (-m) run; basic: one after the other in this process"
        if group in SECOND:
            return self._file("config").lines[group].comment
        hint = _hints(Settings)[group]
        cls = next(part for part in _parts(hint) if dataclasses.is_dataclass(part))
        return (inspect.getdoc(typing.cast(type, cls)) or "").split("\n")[0].partition(";")[0].rstrip(".:")

    def choice(self, group: str, name: str) -> Choice:
        """One choice of a group with its options."""
        folder, key_of = SECOND.get(group, group), group.replace("/", ".")
        file = self._file(f"{folder}/{name}")
        cls, options, sets = None, dict[str, Option](), dict[str, str]()
        for entry, target in file.defaults:
            words, _, place = entry.partition("@")
            others = {key: found for key, found in options.items() if not f"{key}.".startswith(f"{group}.{place}.")}
            if target is not None and words.startswith("override ") and len(others) == len(options):
                sets[entry.removeprefix("override ").lstrip("/")] = target
            elif target is not None:
                words = words.removeprefix("override ").lstrip("/")
                inner = self.choice(words, target)
                options = others | _moved(inner.options, words, f"{group}.{place}")
                sets |= {place: target} if place.startswith("parts.") else {}
            elif words.startswith("/schema/"):
                cls = entries(folder)[words.rpartition("/")[2]]
            elif words.startswith("/base/"):
                base = self._file(words.lstrip("/")).lines
                options |= {f"{group}.{key}": _option(f"{group}.{key}", None, key, v.value, v.comment) for key, v in base.items()}
            else:
                parent = self.choice(group, words.rpartition("/")[2])
                cls, options, sets = parent.cls, options | parent.options, sets | parent.sets
        beginning = f"{folder}." if file.is_global else ""
        for key, line in file.lines.items():
            if key.startswith(beginning) and key != folder:
                own = f"{key_of}.{key.removeprefix(beginning)}"
                inherited = options.get(own, _option(own, None, "", "", ""))
                options[own] = replace(inherited, default=line.value, what=line.comment or inherited.what)
        typed = {key: self._typed(found, folder, name, cls, key.removeprefix(f"{key_of}.")) for key, found in options.items()}
        return Choice(group, name, cls, file.summary, file.example, typed, sets)

    @property
    def options(self) -> list[Option]:
        """Every option of the root and of every choice of every group."""
        choices = (self.choice(group, name) for group in (*GROUPS, *SECOND) for name in self.names(group))
        return [*self.root.values(), *(option for choice in choices for option in choice.options.values())]

    def experiments(self) -> list[Choice]:
        """The experiments: files that set anything."""
        files = [(name, self._file(f"experiment/{name}")) for name in self.names("experiment")]
        return [Choice("experiment", name, None, file.summary, file.example, {}, {}) for name, file in files]

    def _typed(self, option: Option, folder: str, name: str, cls: Any, path: str) -> Option:
        """An option with its type; where its own file says nothing about it, with what the file named after its class says."""
        if cls is None or option.allowed:
            return option
        owner = next(own for own, found in entries(folder).items() if found is cls)
        what = option.what
        if not what and owner != name and owner in self.names(folder):
            what = next((line.comment for key, line in self._file(f"{folder}/{owner}").lines.items() if key == path), "")
        return _option(option.key, cls, path, option.default, what)

    def _file(self, path: str) -> Commented:
        if path not in self._read:
            self._read[path] = read(next(f for place in self._folders if (f := place / f"{path}.yaml").is_file()))
        return self._read[path]


def _moved(options: dict[str, Option], group: str, place: str) -> dict[str, Option]:
    """A choice's options at another place."""
    moved = (replace(option, key=f"{place}.{option.key.removeprefix(f'{group}.')}") for option in options.values())
    return {option.key: option for option in moved}


@cache
def _hints(cls: Any) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _option(key: str, cls: Any, path: str, default: str, what: str) -> Option:
    """An option whose type is that of a field of a class, or of a class in a field."""
    allowed, values = ("", dict[str, str]()) if cls is None else _of_field(cls, path)
    return Option(key, default, allowed, values, what)


def _of_field(cls: Any, path: str) -> tuple[str, dict[str, str]]:
    """Which values the field at a dotted path may have: in words, and one by one where there are a few."""
    name, _, rest = path.partition(".")
    field = next((f for f in dataclasses.fields(cls) if f.name == name), None)
    if field is None:
        return "", {}
    hint = _hints(cls)[name]
    kinds = [kind for kind in _parts(hint) if kind is not type(None)]
    if rest:
        inner = kinds[0]
        if typing.get_origin(inner) is dict:  # the next word is a name of the user's own
            inner, rest = typing.get_args(inner)[1], rest.partition(".")[2]
            if not rest:
                return _in_words(inner, None)
        return _of_field(inner, rest) if dataclasses.is_dataclass(inner) and rest else ("", {})
    null = {"null": ""} if len(kinds) < len(_parts(hint)) else {}
    words, values = _in_words(kinds[0], field.metadata.get("interval"))
    if not values:
        return " or ".join([*filter(None, [words]), *null]), {}
    values |= null
    return ", ".join(values), values


def _parts(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)


def _in_words(kind: Any, interval: Interval | None) -> tuple[str, dict[str, str]]:
    """One type's values."""
    if isinstance(kind, type) and issubclass(kind, Enum):
        return "", {member.name: str(member.value) for member in kind}
    if kind is bool:
        return "", {"true": "", "false": ""}
    if typing.get_origin(kind) is list:
        inner = {int: "integers", float: "numbers", str: "strings"}.get(typing.get_args(kind)[0], "values")
        return f"list of {inner}{f' {interval.shown}' if interval else ''}", {}
    if typing.get_origin(kind) is dict:
        return "names with options", {}
    words = {int: "integer", float: "number", str: "string", Any: "string or list of strings"}.get(kind, "")
    return f"{words} {interval.shown}".strip() if interval else words, {}
