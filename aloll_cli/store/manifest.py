"""What a finished artifact consists of: manifest.json lists every file with its size and checksum."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from aloll_cli.files import sha256

NOT_LISTED = ("manifest.json", "log.txt")


def files_of(directory: Path) -> list[Path]:
    """Every file that a manifest lists, in order."""
    files = (file for file in directory.rglob("*") if file.is_file())
    return sorted(file for file in files if str(file.relative_to(directory)) not in NOT_LISTED)


def write_manifest(directory: Path) -> None:
    """Sizes and checksums of every file; the last file to be written."""
    files = {
        str(file.relative_to(directory)): {"bytes": file.stat().st_size, "sha256": sha256(file)} for file in files_of(directory)
    }
    (directory / "manifest.json").write_text(json.dumps({"files": files}, indent=1))


@dataclass(frozen=True)
class Damage:
    """What is wrong with a finished artifact.

    Attributes:
        what: in words.
        stray: a file that is too many, where that is all.
    """

    what: str
    stray: Path | None = None


def damage_of(directory: Path, contents: bool = True) -> Damage | None:
    """What is wrong with a finished artifact's files, or None; without contents, their sizes alone are looked at."""
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
            return Damage(f"{name} was altered (its checksum differs)")
    for file in files_of(directory):
        if str(file.relative_to(directory)) not in listed and not file.name.startswith("."):  # as file systems leave some
            return Damage(f"{file.relative_to(directory)} does not belong there", file)
    return None
