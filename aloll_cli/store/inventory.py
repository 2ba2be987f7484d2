"""The artifacts in an output folder: their states, sizes, and which were built from which."""

from __future__ import annotations

import os
import re
import shlex
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from stat import S_ISREG
from typing import Any

from aloll_cli.errors import UserError
from aloll_cli.files import below, sha256
from aloll_cli.foreign import LARGEST_RECIPE, Unreadable, parsed, read_bytes, recipe_of
from aloll_cli.schema import fingerprint
from aloll_cli.store.locks import FOLDER as LOCKS
from aloll_cli.store.locks import ArtifactLock
from aloll_cli.store.manifest import UNFINISHED, damage_of, listed_in
from aloll_cli.store.marker import MARK, TAG, TRACKING
from aloll_cli.visible import one_line

FOLDER = re.compile(r"(?P<name>.+)-(?P<fingerprint>[0-9a-f]{12})(?P<partial>\.partial)?", re.DOTALL)
REMOVED = re.compile(rf"\.{FOLDER.pattern}\.removed", re.DOTALL)
RESULTS = ("policy", "metrics", "judgements")  # kinds that users want to keep; the others are intermediate results
BESIDE = (LOCKS, "report", "replies")  # folders of a task that hold no artifacts: locks, pages, replies of judges
STANDS_FOR = "stands_for"  # in an identity: the fingerprint of an artifact whose recipe is too large to be part of every other
BEGINNING = b'{\n "identity": '  # of a recipe that was written by this program


class State(Enum):
    """The state of an artifact; the values are what is shown."""

    complete = "complete"
    interrupted = "interrupted"
    busy = "in progress"
    damaged = "damaged"
    foreign = "not ours"


@dataclass(frozen=True)
class Entry:
    """The folder of one artifact.

    Attributes:
        root: the task's folder, ``outputs/<task>``.
        path: the artifact's folder.
        kind: policy, values, …
        name: the folder's name, which ends with the fingerprint.
        fingerprint: hash of its recipe.
        state: complete, interrupted, in progress, damaged, or not ours: without a recipe of this program, or behind a link.
        bytes: total size of its files.
        age: seconds since a file was last written.
        inputs: fingerprints of its direct inputs; None if its recipe cannot be read.
    """

    root: Path
    path: Path
    kind: str
    name: str
    fingerprint: str
    state: State
    bytes: int
    age: float
    inputs: frozenset[str] | None

    def lock(self) -> ArtifactLock:
        """The lock that building or removing it needs."""
        return ArtifactLock(self.root, f"{self.kind}/{self.name}")


def entries(output_dir: Path) -> list[Entry]:
    """Every folder under ``output_dir/<task>/<kind>/`` with the name of an artifact, by task, kind and name.

    Symbolic links are not followed. Artifacts that another process renames or removes meanwhile are left out.
    """
    found = []
    for root in _folders(output_dir):
        for kind in _folders(root):
            for path in sorted(kind.iterdir()):
                if path.is_dir() and (match := FOLDER.fullmatch(path.name)):
                    with suppress(FileNotFoundError):
                        found.append(_entry(root, path, match))
    return found


def strangers(output_dir: Path, found: list[Entry]) -> Iterator[Path]:
    """What lies in an output folder and is not of this program; of a folder of strangers only itself."""
    ours = {place for entry in found if entry.state is not State.foreign for place in (entry.path, *entry.path.parents)}
    for root in _listed(output_dir):
        if root.name in (MARK, TAG, ".gitkeep", ".sweeps", TRACKING):
            continue
        if root not in ours:
            yield from [] if _holds_only_locks(root) else [root]
            continue
        for kind in _listed(root):
            if kind in ours:
                yield from (path for path in _listed(kind) if path not in ours and not REMOVED.fullmatch(path.name))
            elif kind.name not in BESIDE or kind.is_symlink():
                yield kind


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:  # gone, or not ours to read
        return []


def _folders(folder: Path) -> list[Path]:
    return [path for path in _listed(folder) if path.is_dir() and not path.is_symlink()]


def _holds_only_locks(root: Path) -> bool:
    """Whether a command has used the folder of a task without building anything, or ``clean`` removed all of it."""
    is_folder = root.is_dir() and not root.is_symlink()
    return is_folder and all(path.name in BESIDE or _is_empty(path) for path in _listed(root))


def _is_empty(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink() and not any(path.iterdir())


def users(found: list[Entry]) -> dict[str, list[Entry]]:
    """By fingerprint, the artifacts that have it as a direct input, complete or not."""
    using: dict[str, list[Entry]] = {entry.fingerprint: [] for entry in found}
    for entry in found:
        for needed in entry.inputs or ():
            using.setdefault(needed, []).append(entry)
    return using


def unused(found: list[Entry]) -> list[Entry]:
    """Unreferenced artifacts of ours: neither policies nor evaluations nor in progress, nor inputs of such, directly or not.

    Artifacts whose own recipe cannot be read are never among them.

    Raises:
        UserError: the recipe of a referenced artifact cannot be read, so that its inputs are unknown.
    """
    by_fingerprint = {entry.fingerprint: entry for entry in found}
    found = [entry for entry in found if entry.inputs is not None or is_torn(entry.path)]
    left = [entry for entry in found if entry.kind in RESULTS or entry.state is State.busy]
    used: set[str] = set()
    while left:
        entry = left.pop()
        if entry.inputs is None:
            hint = f"If you do not need it, remove it first: {shlex.join(['rm', '-r', str(entry.path)])}"
            raise UserError(f"{entry.path} has no readable recipe.json, so its inputs are unknown.", hint)
        used.add(entry.fingerprint)
        left += [by_fingerprint[name] for name in entry.inputs - used if name in by_fingerprint]
    return [entry for entry in found if entry.fingerprint not in used and entry.inputs is not None]


def _entry(root: Path, path: Path, found: re.Match[str]) -> Entry:
    digits = found["fingerprint"]
    recipe = None if path.is_symlink() else _recipe(path / "recipe.json", digits)
    files = [] if path.is_symlink() else [status for status in map(_status, below(path)) if status]
    files = [status for status in files if S_ISREG(status.st_mode)]
    kind, name = path.parent.name, f"{found['name']}-{digits}"
    return Entry(
        root=root,
        path=path,
        kind=kind,
        name=name,
        fingerprint=digits,
        state=_state(root, path, f"{kind}/{name}", recipe is None),
        bytes=sum(status.st_size for status in files),
        age=max(0.0, time.time() - max((status.st_mtime for status in files), default=path.lstat().st_mtime)),
        inputs=None if recipe is None else frozenset(_inputs(recipe)),
    )


def _inputs(recipe: dict[str, Any]) -> Iterator[str]:
    """The fingerprints of an artifact's direct inputs."""
    yield from (fingerprint(needed) for needed in recipe["inputs"].values())
    if STANDS_FOR in recipe["identity"]:
        yield str(recipe["identity"][STANDS_FOR])


def _status(file: Path) -> os.stat_result | None:
    try:
        return file.lstat()
    except OSError:
        return None


def has_own_recipe(folder: Path, digits: str) -> bool:
    """Whether a folder has a readable recipe that its name ends with the fingerprint of."""
    return _recipe(folder / "recipe.json", digits) is not None


def is_ours(directory: Path) -> bool:
    """Whether a folder with the name of an artifact was written as one, or is empty."""
    digits = directory.name.rpartition("-")[2]
    return has_own_recipe(directory, digits) or is_torn(directory) or not any(directory.iterdir())


def is_torn(folder: Path) -> bool:
    """Whether an artifact is ours, although its recipe is not that of its name: what a power cut or a flipped bit leaves.

    Such a recipe is empty, or it begins like ours and is no JSON, or not what the manifest lists. One that is whole is of a
    folder that somebody renamed.
    """
    file = folder / "recipe.json"
    try:
        content = b"" if file.is_symlink() else read_bytes(file, LARGEST_RECIPE)
    except (OSError, Unreadable):
        return False
    if file.is_symlink() or not content.strip(b"\0"):
        return not file.is_symlink()
    return content.startswith(BEGINNING) and (not _is_json(content) or _is_changed(file))


def _is_json(content: bytes) -> bool:
    try:
        parsed(content)
    except Unreadable:
        return False
    return True


def _is_changed(file: Path) -> bool:
    listed = (listed_in(file.parent) or {}).get(file.name)
    return listed is not None and listed[1] != sha256(file)


def _recipe(file: Path, digits: str) -> dict[str, Any] | None:
    """An artifact's recipe, or None if it is incomplete, altered or missing."""
    try:
        recipe = None if file.is_symlink() else recipe_of(file)
    except (OSError, Unreadable):
        return None
    return recipe if fingerprint(recipe) == digits else None


def _state(root: Path, path: Path, folder: str, recipe_is_lost: bool) -> State:
    if path.is_symlink() or (recipe_is_lost and not is_torn(path)):
        return State.foreign
    if path.suffix == ".partial":
        return State.busy if ArtifactLock(root, folder).is_held() else State.interrupted
    damage = damage_of(path, contents=False)
    if damage is UNFINISHED and not recipe_is_lost:
        return State.interrupted
    return State.damaged if recipe_is_lost or damage else State.complete


def size(count: int) -> str:
    """``4.2 MB``."""
    amount, units = float(count), iter(("B", "kB", "MB", "GB", "TB"))
    unit = next(units)
    while amount >= 999.5 and unit != "TB":
        amount, unit = amount / 1000, next(units)
    return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.3g} {unit}"


def age(seconds: float) -> str:
    """``3 min``."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def table(found: list[Entry], everything: list[Entry]) -> Iterator[str]:
    """Lines of text: one per task and one per artifact; ``everything`` is where their users are looked up."""
    using = users(everything)
    rows = [
        (
            one_line(entry.kind), one_line(entry.name), entry.state.value, size(entry.bytes), age(entry.age),
            _counted(using[entry.fingerprint]),
        )
        for entry in found
    ]  # fmt: skip
    headings = ("artifact", "name", "state", "size", "age", "used by")
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    for root in dict.fromkeys(entry.root for entry in found):
        mine = [row for entry, row in zip(found, rows, strict=True) if entry.root == root]
        total = sum(entry.bytes for entry in found if entry.root == root)
        yield f"{one_line(str(root))}: {len(mine)} artifacts, {size(total)}"
        yield from (_row(row, widths) for row in [headings, *mine])
        yield ""


def _row(cells: tuple[str, ...], widths: list[int]) -> str:
    right = (3, 4)  # the columns of sizes and ages
    padded = [
        cell.rjust(width) if i in right else cell.ljust(width) for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return ("  " + "  ".join(padded)).rstrip()


def _counted(using: list[Entry]) -> str:
    kinds = [one_line(entry.kind) for entry in using]
    return ", ".join(kind if kinds.count(kind) == 1 else f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds)) or "-"
