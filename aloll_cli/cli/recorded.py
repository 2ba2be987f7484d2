"""``run=NAME``: a command line that begins with the options of a finished run."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Protocol

from aloll_cli.cli.options import SECOND, Catalogue
from aloll_cli.cli.quoting import literal
from aloll_cli.errors import UserError
from aloll_cli.foreign import anything, damaged, dict_of, read_bytes, yaml_of
from aloll_cli.schema import name_of
from aloll_cli.settings.groups import GROUPS
from aloll_cli.settings.root import Settings
from aloll_cli.store.manifest import check_files
from aloll_cli.store.places import run_folder

LARGEST = 1_000_000  # bytes of a configuration
OURS = ("name", "stage")  # keys of config.yaml that are no options
KEPT = ("plugins", "attn")  # of the options that the recipe of a run leaves out, those that may decide what is built

Values = Mapping[str, Any]


class Composing(Protocol):
    """Composes a configuration."""

    def values(self, overrides: Sequence[str]) -> dict[str, Any]:
        """The options of a command line, as nested plain values without names of classes."""

    def choices(self, group: str) -> Sequence[str]:
        """The choices of a group."""


class Recorded:
    """The options of a finished run."""

    def __init__(self, folder: Path, output_dir: str | None) -> None:
        """Read them from the folder of its metrics or its policy. Raises UserError if they cannot be read.

        Args:
            folder: the folder.
            output_dir: where its artifacts are; None if the command line says so.
        """
        self._folder, self._output_dir = folder, output_dir
        check_files(folder, "config.yaml")
        with damaged(folder / "config.yaml"):
            self._values = yaml_of(read_bytes(folder / "config.yaml", LARGEST).decode("utf-8", "replace"))
            dict_of(anything)(self._values, "")

    @property
    def plugins(self) -> list[str]:
        """Its folders of plugins."""
        return [str(folder) for folder in self._values.get("plugins") or []]

    def words(self, typed: Sequence[str], composer: Composing) -> list[str]:
        """The overrides that compose its configuration, but for what is typed.

        Raises:
            UserError: it was written by another version with other options, or ``experiment=`` is typed, too.
        """
        keys = {re.sub(r"^reward@", "", word.partition("=")[0].lstrip("+")) for word in typed}
        if "experiment" in keys:
            raise UserError("run= and experiment= both choose a whole set of options.", "Leave out one of the two.")
        left = {key: value for key, value in self._values.items() if key in _deciding() and key not in keys}
        chosen = [f"{key}={choice}" for key, choice in self._choices(left, composer)]
        is_elsewhere = self._output_dir is not None and "output_dir" not in keys
        place = [f"output_dir={literal(self._output_dir)}"] if is_elsewhere else []
        differing = self._differing(composer.values(chosen), left, "")
        rest = [f"{key}={literal(value, interpolates=True)}" for key, value in differing if key not in keys]
        return [*chosen, *place, *rest]

    def _choices(self, values: Values, composer: Composing) -> Iterator[tuple[str, str]]:
        """The groups with a choice of the run's class."""
        for group in (*GROUPS, *SECOND):
            if group not in values:
                continue
            if values[group] is None:
                if "none" in composer.choices(group):
                    yield group, "none"
                continue
            yield group, self._choice(SECOND.get(group, group), values[group], composer)
            for part, found in (values[group].get("parts") or {}).items():
                yield f"{group}.parts.{part}", self._choice("reward", found["reward"], composer)

    def _choice(self, group: str, value: Values, composer: Composing) -> str:
        """A choice of a group that has the class of a value: the file named after it, or the first."""
        entry = next((key for key, cls in GROUPS[group].items() if name_of(cls) == value.get("name")), None)
        names = list(composer.choices(group))
        if entry is not None and entry not in names:
            catalogue = Catalogue()
            entry = next((name for name in names if catalogue.choice(group, name).cls is GROUPS[group][entry]), None)
        if entry is None:
            raise self._other(f"{group}={value.get('name')}")
        return entry

    def _differing(self, mine: Values, theirs: Values, prefix: str) -> Iterator[tuple[str, Any]]:
        """The run's options whose values are not those of a composed configuration."""
        for key, value in theirs.items():
            if key not in mine:
                if key not in OURS:
                    raise self._other(f"{prefix}{key}")
            elif isinstance(value, dict) and isinstance(mine[key], dict):
                yield from self._differing(mine[key], value, f"{prefix}{key}.")
            elif value != mine[key]:
                # Hydra's grammar has no quotes for keys; task.labels takes both forms
                yield f"{prefix}{key}", [f"{k}: {v}" for k, v in value.items()] if isinstance(value, dict) else value

    def _other(self, option: str) -> UserError:
        what = f"run={self._folder.name} was made by another version of aloll: it has the option {option}."
        return UserError(what, "Type its options as aloll runs and its config.yaml show them.")


def recorded(typed: Sequence[str]) -> Recorded | None:
    """The run that a command line names with ``run=``, or None.

    Raises:
        UserError: there is none of that name, or several.
    """
    named = {key: value.strip("'\"") for key, _, value in (word.partition("=") for word in typed)}
    name = named.get("run", "null")
    if name == "null":
        return None
    place = Path(name).expanduser()
    if (place / "config.yaml").is_file():
        return Recorded(place, str(place.resolve().parents[2]))
    return Recorded(run_folder(name, named.get("output_dir", "outputs")), None)


def _deciding() -> set[str]:
    """The options that may decide what is built."""
    return {f.name for f in fields(Settings) if f.metadata.get("identity", True) or f.name in KEPT}
