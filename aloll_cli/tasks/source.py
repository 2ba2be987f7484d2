"""Reads rows from local files or from a data set on the hub.

Files are read row by row, so that errors can name the line; hub data sets are streamed by `datasets`.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aloll_cli.errors import UserError
from aloll_cli.files import out_of_memory, storage_trouble
from aloll_cli.store.hub import is_network_error, resolved_revision
from aloll_cli.store.outside import checksum
from aloll_cli.tasks.arrow_floats import is_changed, with_floats_as_decimals
from aloll_cli.tasks.column_names import listed
from aloll_cli.tasks.layouts import SPLIT_NAMES, gap, split_files, total, unread
from aloll_cli.tasks.readers import SUFFIXES, columns_of, has_short_floats, rows_of

if TYPE_CHECKING:
    from datasets import Features


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
        """Identity of the rows for the recipe: file hashes, or a resolved revision; never a path. It is of this moment."""


class LocalSource(Source):
    """A folder with train, validation and test files, or one file. A split may be several files (layouts.py)."""

    def __init__(self, path: str) -> None:
        self.path, root = path, Path(path).expanduser()
        self._checked: set[str] = set()  # splits whose files have the same columns
        if not path or not _exists(root):
            hint = "Download it first. " if re.match("https?://", path) else ""
            raise UserError(f"task.path={_shortened(path)}: no such file or folder.", f"{hint}task.path=FOLDER or FILE.jsonl")
        self.files = split_files(root, path) if root.is_dir() else {"all": [self._one_file(root)]}

    def _one_file(self, file: Path) -> Path:
        if not file.is_file():
            raise UserError(f"task.path={self.path} is neither a file nor a folder.", "task.path=FOLDER or FILE.jsonl")
        if not file.name.endswith(SUFFIXES):
            raise UserError(f"task.path={self.path}: unknown file type; expected {', '.join(SUFFIXES)}.", "task.path=FILE.jsonl")
        return file

    def place(self, split: str) -> str:
        files = self.files.get(split)
        return str(files[0] if files and len(files) == 1 else self.path)

    def splits(self) -> tuple[str, ...]:
        return tuple(self.files)

    def describe(self) -> list[str]:
        root = Path(self.path).expanduser()
        if root.is_file():
            more = total(root) > 1
            return [f"{root.name} is one of {total(root)} files: task.path={root.parent} reads them all"] if more else []
        others = unread(root, self.files)
        lines = [f"files that are not read: {listed(others)} (splits are called {', '.join(SPLIT_NAMES)})"] if others else []
        gaps = [found for files in self.files.values() if (found := gap(files))]
        return lines + [f"between {first.name} and {second.name} no numbers are there" for first, second in gaps]

    def content(self) -> dict[str, str]:
        decimals = any(has_short_floats(file) for files in self.files.values() for file in files)
        hashes = {split: "+".join(map(checksum, files)) for split, files in self.files.items()}
        return hashes | ({"float32": "read as decimals"} if decimals else {})

    def rows(self, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
        self._check_columns(split)
        for file in self.files[split]:
            yield from rows_of(file)

    def _check_columns(self, split: str) -> None:
        """Raises UserError where files of a split are tables of different columns: their rows would lack some in silence."""
        if split in self._checked or len(self.files[split]) == 1:
            return
        tables = [(file, names) for file in self.files[split] if (names := columns_of(file))]
        for file, names in tables:
            first, columns = tables[0]
            if names != columns:
                lacks, has = (listed(sorted(some)) for some in (columns - names, names - columns))
                what = f"{file}: other columns than in {first.name}; missing: {lacks}; not there: {has}."
                raise UserError(what, "Give all files of a split the same columns.")
        self._checked.add(split)


class HubSource(Source):
    """A data set on the hub by its name, at the current revision of its branch."""

    def __init__(self, name: str, branch: str | None = None) -> None:
        self.name, self.branch = name, branch
        self._revision: str | None = None
        self._splits: tuple[str, ...] | None = None

    @property
    def revision(self) -> str:
        """The resolved commit: from the hub or, if offline, from the local cache."""
        if self._revision is None:
            self._revision = resolved_revision(self.name, "dataset", self.branch)
        return self._revision

    def splits(self) -> tuple[str, ...]:
        from datasets import get_dataset_split_names

        if self._splits is None:
            with self._asking(self.name):
                self._splits = tuple(get_dataset_split_names(self.name, revision=self.revision))
        return self._splits

    def describe(self) -> list[str]:
        others = [split for split in self.splits() if split not in SPLIT_NAMES.values()]
        return [f"splits that are not read: {listed(others)}"] if others else []

    def place(self, split: str) -> str:
        return f"{self.name}, {split}"

    def content(self) -> dict[str, str]:
        return {"hub": self.name, "revision": self.revision}

    def rows(self, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
        from datasets import load_dataset

        place = self.place(split)
        with self._asking(place):
            found = load_dataset(self.name, split=split, revision=self.revision, streaming=True)
            rows, read = iter(found), _with_decimals(found.features)
        for number in count(1):
            place = f"{self.name}, {split} row {number}"
            with self._asking(place):
                row = next(rows, None)
            if row is None:
                return
            yield place, read(row)

    @contextmanager
    def _asking(self, place: str) -> Iterator[None]:
        """Turns what `datasets` raises into a UserError. It has tried again for minutes where the connection broke off."""
        try:
            yield
        except UserError:
            raise
        except Exception as error:  # of foreign files and of several HTTP clients, of any class
            if storage_trouble(error) is not None or out_of_memory(error) is not None:  # which is reported elsewhere
                raise
            reason = " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
            what = "Repeat the command, or download" if is_network_error(error) else "Download"
            command = f"hf download {self.name} --repo-type dataset --local-dir FOLDER"
            raise UserError(
                f"{place}: {reason}.", f"{what} the data set and read the folder: {command}; task.path=FOLDER"
            ) from error


def _with_decimals(features: Features | None) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """What reads float32 in rows of these features as a Parquet file is read; without features, rows are those of JSON."""
    import pyarrow as pa

    schema = () if features is None else features.arrow_schema
    short = {field.name: field.type for field in schema if is_changed(field.type)}

    def read(row: dict[str, Any]) -> dict[str, Any]:
        wide = {name: with_floats_as_decimals(pa.array([row[name]], kind)).to_pylist()[0] for name, kind in short.items()}
        return row | wide

    return read


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # not a valid file name
        return False


def _shortened(text: str, length: int = 100) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
