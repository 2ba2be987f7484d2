"""The artifacts in an output folder: their states, sizes, and which were built from which."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from aloll_cli.errors import UserError
from aloll_cli.files import read_json
from aloll_cli.schema import fingerprint
from aloll_cli.store.locks import ArtifactLock
from aloll_cli.store.manifest import damage_of

FOLDER = re.compile(r"(?P<name>.+)-(?P<fingerprint>[0-9a-f]{12})(?P<partial>\.partial)?")
RESULTS = ("policy", "metrics")  # kinds that users want to keep; the others are intermediate results


class State(Enum):
    """The state of an artifact; the values are what is shown."""

    complete = "complete"
    interrupted = "interrupted"
    busy = "in progress"
    damaged = "damaged"


@dataclass(frozen=True)
class Entry:
    """The folder of one artifact.

    Attributes:
        root: the task's folder, ``outputs/<task>``.
        path: the artifact's folder.
        kind: policy, values, …
        name: the folder's name, which ends with the fingerprint.
        fingerprint: hash of its recipe.
        state: complete, interrupted, in progress or damaged.
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
    """Every artifact under ``output_dir/<task>/<kind>/``, by task, kind and name; other files are ignored.

    Artifacts that another process renames or removes meanwhile are left out.
    """
    found = []
    for root in sorted(output_dir.glob("*")):
        for path in sorted(root.glob("*/*")):
            if path.is_dir() and (match := FOLDER.fullmatch(path.name)):
                with suppress(FileNotFoundError):
                    found.append(_entry(root, path, match))
    return found


def users(found: list[Entry]) -> dict[str, list[Entry]]:
    """By fingerprint, the artifacts that have it as a direct input, complete or not."""
    using: dict[str, list[Entry]] = {entry.fingerprint: [] for entry in found}
    for entry in found:
        for needed in entry.inputs or ():
            using.setdefault(needed, []).append(entry)
    return using


def unused(found: list[Entry]) -> list[Entry]:
    """Unreferenced artifacts: neither policies nor evaluations nor in progress, nor inputs of such, directly or not.

    Raises:
        UserError: the recipe of a referenced artifact cannot be read, so that its inputs are unknown.
    """
    by_fingerprint = {entry.fingerprint: entry for entry in found}
    left = [entry for entry in found if entry.kind in RESULTS or entry.state is State.busy]
    used: set[str] = set()
    while left:
        entry = left.pop()
        if entry.inputs is None:
            hint = f"If you do not need it, remove it first: {shlex.join(['rm', '-r', str(entry.path)])}"
            raise UserError(f"{entry.path} has no readable recipe.json, so its inputs are unknown.", hint)
        used.add(entry.fingerprint)
        left += [by_fingerprint[name] for name in entry.inputs - used if name in by_fingerprint]
    return [entry for entry in found if entry.fingerprint not in used]


def _entry(root: Path, path: Path, found: re.Match[str]) -> Entry:
    files = [file.stat() for file in path.rglob("*") if file.is_file()]
    kind, name = path.parent.name, f"{found['name']}-{found['fingerprint']}"
    recipe = _recipe(path / "recipe.json", found["fingerprint"])
    return Entry(
        root=root,
        path=path,
        kind=kind,
        name=name,
        fingerprint=found["fingerprint"],
        state=_state(root, path, f"{kind}/{name}", recipe is None),
        bytes=sum(status.st_size for status in files),
        age=max(0.0, time.time() - max((status.st_mtime for status in files), default=path.stat().st_mtime)),
        inputs=None if recipe is None else frozenset(fingerprint(needed) for needed in recipe["inputs"].values()),
    )


def _recipe(file: Path, digits: str) -> dict[str, Any] | None:
    """An artifact's recipe, or None if it is incomplete, altered or missing."""
    try:
        recipe: dict[str, Any] = read_json(file)
    except (OSError, ValueError):
        return None
    return recipe if fingerprint(recipe) == digits else None


def _state(root: Path, path: Path, folder: str, recipe_is_lost: bool) -> State:
    if path.suffix == ".partial":
        return State.busy if ArtifactLock(root, folder).is_held() else State.interrupted
    return State.damaged if recipe_is_lost or damage_of(path, contents=False) else State.complete


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
        (entry.kind, entry.name, entry.state.value, size(entry.bytes), age(entry.age), _counted(using[entry.fingerprint]))
        for entry in found
    ]
    headings = ("artifact", "name", "state", "size", "age", "used by")
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    for root in dict.fromkeys(entry.root for entry in found):
        mine = [row for entry, row in zip(found, rows, strict=True) if entry.root == root]
        total = sum(entry.bytes for entry in found if entry.root == root)
        yield f"{root}: {len(mine)} artifacts, {size(total)}"
        yield from (_row(row, widths) for row in [headings, *mine])
        yield ""


def _row(cells: tuple[str, ...], widths: list[int]) -> str:
    right = (3, 4)  # the columns of sizes and ages
    padded = [
        cell.rjust(width) if i in right else cell.ljust(width) for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return ("  " + "  ".join(padded)).rstrip()


def _counted(using: list[Entry]) -> str:
    kinds = [entry.kind for entry in using]
    return ", ".join(kind if kinds.count(kind) == 1 else f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds)) or "-"
