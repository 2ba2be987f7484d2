"""Reads rows from local files or from a data set on the hub.

Files are read row by row, so that errors can name the line; hub data sets are streamed by `datasets`.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from aloll_cli.errors import UserError
from aloll_cli.files import sha256
from aloll_cli.store.hub import resolved_revision
from aloll_cli.tasks.column_names import listed
from aloll_cli.tasks.readers import SUFFIXES, rows_of

SPLIT_NAMES = {"train": "train", "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
               "test": "test"}  # fmt: skip


class Source(ABC):
    """Rows by split."""

    @abstractmethod
    def splits(self) -> tuple[str, ...]:
        """The splits of the source; ("all",) if rows have to be split by prompt."""

    @abstractmethod
    def rows(self, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """(place, row) in order; errors name the place."""

    @abstractmethod
    def place(self, split: str) -> str:
        """Where the rows of a split are, for error messages."""

    def describe(self) -> list[str]:
        """Lines on what of the source is not read."""
        return []

    @abstractmethod
    def content(self) -> dict[str, str]:
        """Identity of the rows for the recipe: file hashes, or a resolved revision; never a path."""


class LocalSource(Source):
    """A folder with train, validation and test files, or one file. A split may be several files, as on the hub."""

    def __init__(self, path: str) -> None:
        self.path, root = path, Path(path).expanduser()
        if not path or not _exists(root):
            hint = "Download it first. " if re.match("https?://", path) else ""
            raise UserError(f"task.path={_shortened(path)}: no such file or folder.", f"{hint}task.path=FOLDER or FILE.jsonl")
        self.files = self._in_folder(root) if root.is_dir() else {"all": [self._one_file(root)]}

    def _one_file(self, file: Path) -> Path:
        if not file.is_file():
            raise UserError(f"task.path={self.path} is neither a file nor a folder.", "task.path=FOLDER or FILE.jsonl")
        if not file.name.endswith(SUFFIXES):
            raise UserError(f"task.path={self.path}: unknown file type; expected {', '.join(SUFFIXES)}.", "task.path=FILE.jsonl")
        return file

    def _in_folder(self, root: Path) -> dict[str, list[Path]]:
        found: dict[str, list[Path]] = {}
        there = {file.name: file for file in root.iterdir()}
        for split in dict.fromkeys(SPLIT_NAMES.values()):
            names = [name for name, meant in SPLIT_NAMES.items() if meant == split]
            sets = list(filter(None, (self._set(there, name, suffix) for name in names for suffix in SUFFIXES)))
            if len(sets) > 1:
                both = " and ".join(files[0].name for files in sets[:2])
                raise UserError(f"task.path={self.path}: found both {both}.", "Keep one file, or one numbered set, per split.")
            if sets:
                found[split] = sets[0]
        if "train" not in found:
            hint = "Name it train.jsonl (.json, .csv, .parquet, also .gz or .zst), or train-00000-of-00002.parquet and so on."
            raise UserError(f"task.path={self.path}: the folder has no train file.", hint)
        return found

    def _set(self, there: Mapping[str, Path], name: str, suffix: str) -> list[Path]:
        """The file of a split of this name and kind, or its numbered files in order."""
        # older files of the hub end in a hash
        numbered = re.compile(rf"{name}[-_.]?(\d+)(?:-of-(\d+)(?:-[0-9a-f]{{16}})?)?{re.escape(suffix)}")
        shards = {file: match for other, file in there.items() if (match := numbered.fullmatch(other))}
        plain = there.get(f"{name}{suffix}")
        if plain and shards:
            names = f"{plain.name} and {min(shards).name}"
            raise UserError(f"task.path={self.path}: found both {names}.", "Keep one file, or one numbered set, per split.")
        files = [plain] if plain else sorted(shards, key=lambda file: (int(shards[file][1]), file.name))
        for file in files:
            if not file.is_file():
                raise UserError(f"task.path={self.path}: {file.name} is not a file.", f"Put the {name} rows into a file.")
        announced = {int(match[2]) for match in shards.values() if match[2]}
        if announced and announced != {len(files)}:
            most = max(announced)
            raise UserError(
                f"task.path={self.path}: {len(files)} of the {most} files of {name} are there ({files[-1].name}).",
                "Add the missing files: without them a part of the data would be left out.",
            )
        return files

    def place(self, split: str) -> str:
        files = self.files.get(split)
        return str(files[0] if files and len(files) == 1 else self.path)

    def splits(self) -> tuple[str, ...]:
        return tuple(self.files)

    def describe(self) -> list[str]:
        root, read = Path(self.path).expanduser(), {file for files in self.files.values() for file in files}
        there = root.iterdir() if root.is_dir() else ()
        unread = sorted(file.name for file in there if file.name.endswith(SUFFIXES) and file not in read)
        return [f"files that are not read: {listed(unread)} (splits are called {', '.join(SPLIT_NAMES)})"] if unread else []

    def content(self) -> dict[str, str]:
        return {split: "+".join(map(sha256, files)) for split, files in self.files.items()}

    def rows(self, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
        for file in self.files[split]:
            yield from rows_of(file)


class HubSource(Source):
    """A data set on the hub by its name, at the current revision of its branch."""

    def __init__(self, name: str, branch: str | None = None) -> None:
        self.name, self.branch = name, branch
        self._revision: str | None = None

    @property
    def revision(self) -> str:
        """The resolved commit: from the hub or, if offline, from the local cache."""
        if self._revision is None:
            self._revision = resolved_revision(self.name, "dataset", self.branch)
        return self._revision

    def splits(self) -> tuple[str, ...]:
        from datasets import get_dataset_split_names

        return tuple(get_dataset_split_names(self.name, revision=self.revision))

    def place(self, split: str) -> str:
        return f"{self.name}, {split}"

    def content(self) -> dict[str, str]:
        return {"hub": self.name, "revision": self.revision}

    def rows(self, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
        from datasets import load_dataset

        rows = load_dataset(self.name, split=split, revision=self.revision, streaming=True)
        for number, row in enumerate(rows, start=1):
            yield f"{self.name}, {split} row {number}", dict(row)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # not a valid file name
        return False


def _shortened(text: str, length: int = 100) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
