"""Options that a YAML file of a user's own leaves without a value, said with the name of that file."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

from aloll_cli.cli.commented import read
from aloll_cli.cli.hints import example
from aloll_cli.cli.options import Catalogue
from aloll_cli.errors import UserError
from aloll_cli.files import near
from aloll_cli.schema import name_of
from aloll_cli.settings.entries import first_line

NAMED = 3  # at most, of the options that a file leaves out


def check_assigned(missing: Sequence[str], choices: Mapping[str, str | None], folders: Sequence[Path]) -> None:
    """Check that each file that was chosen from some folders assigns every option of its class.

    An option that is left to the command line stands in its file as ``???``.

    Args:
        missing: the options without a value, dotted from the root.
        choices: by group and place, as in ``reward@test_reward``, the name of the file.
        folders: of plugins, and of ``--config-dir``.

    Raises:
        UserError: the first option that a file leaves out.
    """
    for where, choice in choices.items() if missing else ():
        group, _, place = where.partition("@")
        prefix = f"{place or group}."
        file = next((found for folder in folders if (found := folder / group / f"{choice}.yaml").is_file()), None)
        left = [key.removeprefix(prefix) for key in missing if key.startswith(prefix)]
        if file is not None and (unassigned := [name for name in left if name not in read(file).lines]):
            cls = Catalogue(after=folders).choice(group, file.stem).cls
            more = f" and {len(unassigned) - NAMED} more" if len(unassigned) > NAMED else ""
            names = ", ".join(unassigned[:NAMED])
            raise UserError(f"{near(file)} does not set {names}{more}.", _hint(group, cls, unassigned[0]))


def _hint(group: str, cls: type, name: str) -> str:
    """The line to add; where all tasks have such an option, the file that sets those."""
    base = Path(str(files("aloll_cli.conf"))) / "base" / f"{group}.yaml"
    if base.is_file() and name in read(base).lines:
        return f"Begin it with: {first_line(group, name_of(cls))}"
    interval = next((option.metadata.get("interval") for option in dataclasses.fields(cls) if option.name == name), None)
    number = interval.proposal() if interval else None
    return f"Add a line: {name}: {example(f'{group}.{name}').partition('=')[2] if number is None else f'{number:g}'}"
