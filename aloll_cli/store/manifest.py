"""manifest.json: every file of a complete artifact, or of a checkpoint, with its size and checksum.

A complete artifact's checksums are computed once; after that a command trusts a file whose size, times and inode are those that
it was checked with, which ``outputs/<task>/.locks/<artifact>.checked`` holds. ``aloll verify`` computes all of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aloll_cli.errors import UserError
from aloll_cli.files import below, is_deepest, is_racy, marks_of, sha256, sync, sync_folders, write_json, write_text
from aloll_cli.foreign import Unreadable, dict_of, inner_path, integer, json_of, record, text

MANIFEST = "manifest.json"
NOT_LISTED = (MANIFEST, "log.txt", "build.json")
OF_THE_SYSTEM = re.compile(r"\.DS_Store|\.directory|\.nfs[0-9a-f]+|\._.*")  # files that file managers and NFS leave in any folder
ENTRY = record({"bytes": integer, "sha256": text})

Sums = dict[str, dict[str, Any]]  # by relative path: {"bytes": …, "sha256": …}


def files_of(directory: Path) -> list[Path]:
    """Every file that a manifest lists, every symbolic link, and folders that lie too deep to be looked into, sorted."""
    found = [file for file in below(directory) if file.is_symlink() or file.is_file() or is_deepest(file, directory)]
    return sorted(file for file in found if str(file.relative_to(directory)) not in NOT_LISTED)


def sums_of(directory: Path) -> Sums:
    """Size and checksum of every file in a folder, all of which are on disk when this returns."""
    found: Sums = {}
    for file in files_of(directory):
        found[str(file.relative_to(directory))] = {"bytes": file.stat().st_size, "sha256": sha256(file)}
        sync(file)
    return found


def write_manifest(directory: Path, sums: Sums | None = None, **more: Sums) -> None:
    """Write size and checksum of every file; this must be the last file of a folder. When it is there, all files are on disk.

    Args:
        directory: the folder.
        sums: what :func:`sums_of` returned.
        more: checksums of other files that the folder needs, by the key that they are written under.
    """
    files = sums_of(directory) if sums is None else sums
    sync_folders(directory)
    write_text(directory / MANIFEST, json.dumps({"files": files} | more, indent=1), durably=True)


def remember(directory: Path, sums: Sums) -> None:
    """Note that the files of an artifact have just been checked, as :func:`damage_of` does."""
    marks = {name: [*_marks(directory / name), entry["sha256"]] for name, entry in sums.items()}
    _write_record(_record_of(directory), {name: found for name, found in marks.items() if not is_racy(found)})


@dataclass(frozen=True)
class Damage:
    """What is wrong with a complete artifact.

    Attributes:
        what: a description.
        stray: the unexpected file, if that is what is wrong.
    """

    what: str
    stray: Path | None = None


UNFINISHED = Damage("its manifest.json cannot be read")


def damage_of(directory: Path, contents: bool = True, trusting: bool = True) -> Damage | None:
    """What is wrong with the files of a complete artifact first, or None; UNFINISHED without a readable manifest.

    Args:
        directory: of the artifact.
        contents: whether to compare checksums; otherwise sizes only.
        trusting: whether files that were checked before and have not changed since are taken as they are.
    """
    return next(damages(directory, contents, trusting), None)


def damages(directory: Path, contents: bool = True, trusting: bool = True) -> Iterator[Damage]:
    """Everything that is wrong with the files of a complete artifact, see :func:`damage_of`."""
    listed = listed_in(directory)
    if listed is None:
        yield UNFINISHED
        return
    record = _record_of(directory)
    before = _read_record(record) if trusting else {}
    checked: dict[str, list[Any]] = {}
    is_whole, is_new = True, False
    for name, (size, checksum) in listed.items():
        now: list[Any] = [*_marks(directory / name), checksum]
        if contents and now == before.get(name):
            checked[name] = now
        elif damage := _damage_of_file(directory, name, size, checksum if contents else None):
            is_whole = False
            yield damage
        elif contents:
            is_new = True
            if not is_racy(now):
                checked[name] = now
    for file in files_of(directory):
        if str(file.relative_to(directory)) not in listed and (file.is_symlink() or not OF_THE_SYSTEM.fullmatch(file.name)):
            is_whole = False
            yield Damage(f"{file.relative_to(directory)} is not in its manifest", file)
    if is_whole and is_new:
        _write_record(record, checked)


def check_files(directory: Path, *names: str) -> None:
    """Compare files of a complete artifact with its manifest, before they are read where nobody builds anything.

    Nothing is checked in a folder without a manifest: it is not there, not complete, or no artifact.

    Args:
        directory: of the artifact.
        names: the files that are read, which are hashed anew and should be small; none: all files, see :func:`damage_of`.

    Raises:
        UserError: a file is missing, was changed or is not in the manifest.
    """
    if not (directory / MANIFEST).exists():
        return
    found = next(_damages_of_files(directory, names), None) if names else damage_of(directory)
    if found is not None:
        hint = "aloll verify repair=true removes it, so that it is built again."
        raise UserError(f"{directory} is damaged: {found.what}.", hint)


def _damages_of_files(directory: Path, names: Sequence[str]) -> Iterator[Damage]:
    listed = listed_in(directory)
    if listed is None:
        yield UNFINISHED
        return
    for name in names:
        if name not in listed and (directory / name).exists():
            yield Damage(f"{name} is not in its manifest", directory / name)
        elif name in listed and (damage := _damage_of_file(directory, name, *listed[name])):
            yield damage


def strays(directory: Path) -> list[Path]:
    """Files and links in a complete artifact that its manifest does not list; none where it has no readable manifest."""
    listed = listed_in(directory)
    return [] if listed is None else [file for file in files_of(directory) if str(file.relative_to(directory)) not in listed]


def listed_in(directory: Path, key: str = "files") -> dict[str, tuple[int, str]] | None:
    """Sizes and checksums in a folder's manifest, by relative path; None if it cannot be read."""
    try:
        content = json_of(directory / MANIFEST)
        record({key: dict_of(ENTRY)})(content, "")
        for name in content[key]:
            inner_path(name, "a name")
    except (OSError, Unreadable):
        return None
    return {name: (entry["bytes"], entry["sha256"]) for name, entry in content[key].items()}


def _damage_of_file(directory: Path, name: str, size: int, checksum: str | None) -> Damage | None:
    file = directory / name
    if file.is_symlink():
        return Damage(f"{name} is a symbolic link", file)
    if not file.is_file():
        return Damage(f"{name} is missing")
    if file.stat().st_size != size:
        return Damage(f"{name} has {file.stat().st_size} bytes instead of {size}")
    if checksum is not None and sha256(file) != checksum:
        return Damage(f"{name} was changed (its checksum differs)")
    return None


def _marks(file: Path) -> tuple[int, ...]:
    """The marks of a file, or of a link; zeros where there is none."""
    try:
        return marks_of(file.lstat())
    except OSError:
        return (0, 0, 0, 0)


def _record_of(directory: Path) -> Path:
    return directory.parent.parent / ".locks" / f"{directory.parent.name}-{directory.name}.checked"


def _read_record(record: Path) -> dict[str, Any]:
    try:
        found = json_of(record)
    except (OSError, Unreadable):
        return {}
    return found if isinstance(found, dict) else {}


def _write_record(record: Path, checked: dict[str, list[Any]]) -> None:
    """Write the record, where there is a folder for it and it is not read-only."""
    if record.parent.is_dir() and not record.parent.is_symlink():
        with suppress(OSError):
            write_json(record, checked)
