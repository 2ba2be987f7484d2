"""manifest.json: every file of a complete artifact with its size and checksum."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from aloll_cli.files import sha256

NOT_LISTED = ("manifest.json", "log.txt")


def files_of(directory: Path) -> list[Path]:
    """Every file that a manifest lists, sorted."""
    files = (file for file in directory.rglob("*") if file.is_file())
    return sorted(file for file in files if str(file.relative_to(directory)) not in NOT_LISTED)


def write_manifest(directory: Path) -> None:
    """Write size and checksum of every file; this must be the last file of an artifact."""
    files = {
        str(file.relative_to(directory)): {"bytes": file.stat().st_size, "sha256": sha256(file)} for file in files_of(directory)
    }
    (directory / "manifest.json").write_text(json.dumps({"files": files}, indent=1))


@dataclass(frozen=True)
class Damage:
    """What is wrong with a complete artifact.

    Attributes:
        what: a description.
        stray: the unexpected file, if that is what is wrong.
    """

    what: str
    stray: Path | None = None


def damage_of(directory: Path, contents: bool = True) -> Damage | None:
    """What is wrong with the files of a complete artifact, or None; without ``contents`` only sizes are checked."""
    try:
        listed = {
            name: (entry["bytes"], entry["sha256"])
            for name, entry in json.loads((directory / "manifest.json").read_text())["files"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Damage("its manifest.json cannot be read")
    for name, (size, checksum) in listed.items():
        file = directory / name
        if not file.is_file():
            return Damage(f"{name} is missing")
        if file.stat().st_size != size:
            return Damage(f"{name} has {file.stat().st_size} bytes instead of {size}")
        if contents and sha256(file) != checksum:
            return Damage(f"{name} was changed (its checksum differs)")
    for file in files_of(directory):
        if str(file.relative_to(directory)) not in listed and not file.name.startswith("."):  # hidden files of the system
            return Damage(f"{file.relative_to(directory)} is not in its manifest", file)
    return None
