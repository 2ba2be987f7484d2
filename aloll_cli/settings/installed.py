"""Installed packages of plugins: each names its folder as an entry point of the group ``aloll.plugins``."""

from __future__ import annotations

import importlib.util
from importlib.metadata import entry_points
from pathlib import Path

from aloll_cli.errors import UserError

ENTRY_POINTS = "aloll.plugins"


def installed() -> dict[Path, str]:
    """The folders of installed packages of plugins, with the names of the packages.

    Raises:
        UserError: an entry point names no package.
    """
    return {_folder(entry.name, entry.value): entry.value for entry in entry_points(group=ENTRY_POINTS)}


def _folder(name: str, package: str) -> Path:
    try:
        spec = importlib.util.find_spec(package)
    except ModuleNotFoundError:  # of a parent
        spec = None
    places = list(spec.submodule_search_locations or []) if spec else []
    if not places:
        raise UserError(
            f"the installed plugin {name} names {package}, which is no package.",
            f'In its pyproject.toml: [project.entry-points."{ENTRY_POINTS}"] {name} = "PACKAGE"; or uninstall it.',
        )
    return Path(places[0])
