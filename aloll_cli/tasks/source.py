"""Reads rows from local files or from a data set on the hub.

Files are read row by row, so that errors can name the line; hub data sets are streamed by `datasets`.
"""

from __future__ import annotations

import csv
import gzip
import json
import re
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from aloll_cli.errors import UserError
from aloll_cli.files import sha256
from aloll_cli.store.hub import resolved_revision

SUFFIXES = (".jsonl", ".jsonl.gz", ".csv", ".parquet")
SPLIT_NAMES = {"train": "train", "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
               "test": "test"}  # fmt: skip
ONE_PER_LINE = 'Correct that line: each line must be one JSON object, such as {"prompt": …, "response": …}'


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

    @abstractmethod
    def content(self) -> dict[str, str]:
        """Identity of the rows for the recipe: file hashes, or a resolved revision; never a path."""


class LocalSource(Source):
    """A folder with train, validation and test files, or one file."""

    def __init__(self, path: str) -> None:
        self.path, root = path, Path(path).expanduser()
        if not path or not _exists(root):
            hint = "Download it first. " if re.match("https?://", path) else ""
            raise UserError(f"task.path={_shortened(path)}: no such file or folder.", f"{hint}task.path=FOLDER or FILE.jsonl")
        self.files = self._in_folder(root) if root.is_dir() else {"all": self._one_file(root)}

    def _one_file(self, file: Path) -> Path:
        if not file.is_file():
            raise UserError(f"task.path={self.path} is neither a file nor a folder.", "task.path=FOLDER or FILE.jsonl")
        if not file.name.endswith(SUFFIXES):
            raise UserError(f"task.path={self.path}: unknown file type; expected {', '.join(SUFFIXES)}.", "task.path=FILE.jsonl")
        return file

    def _in_folder(self, root: Path) -> dict[str, Path]:
        found = {}
        for split in dict.fromkeys(SPLIT_NAMES.values()):
            names = [name for name, meant in SPLIT_NAMES.items() if meant == split]
            files = [file for name in names for suffix in SUFFIXES if _exists(file := root / f"{name}{suffix}")]
            if len(files) > 1:
                both = " and ".join(file.name for file in files[:2])
                raise UserError(f"task.path={self.path}: found both {both}.", "Keep one file per split.")
            if files and not files[0].is_file():
                raise UserError(f"task.path={self.path}: {files[0].name} is not a file.", f"Put the {split} rows into a file.")
            if files:
                found[split] = files[0]
        if "train" not in found:
            hint = "Name it train.jsonl (.jsonl.gz, .csv, .parquet)."
            raise UserError(f"task.path={self.path}: the folder has no train file.", hint)
        return found

    def place(self, split: str) -> str:
        return str(self.files.get(split, self.path))

    def splits(self) -> tuple[str, ...]:
        return tuple(self.files)

    def content(self) -> dict[str, str]:
        return {split: sha256(file) for split, file in self.files.items()}

    def rows(self, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
        file = self.files[split]
        read = {".csv": _csv_rows, ".parquet": _parquet_rows}.get(file.suffix, _json_lines)
        yield from read(file)


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


def _csv_rows(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """All cells are text; tasks parse numbers themselves."""
    with file.open(encoding="utf-8-sig", newline="") as stream:
        rows = csv.DictReader(stream, strict=True)
        try:
            if twice := _repeated(rows.fieldnames or ()):
                raise UserError(f'{file}: the header has two columns "{twice}".', "Give every column its own name.")
            for row in rows:
                place = f"{file}, line {rows.line_num}"
                if None in row or None in row.values():
                    raise UserError(
                        f"{place}: the number of cells differs from the header.",
                        "Quote cells that contain commas or line breaks.",
                    )
                yield place, row
        except csv.Error as error:
            raise UserError(f"{file}, line {rows.line_num}: not valid CSV: {error}.", "Correct that line.") from None
        except UnicodeDecodeError:
            raise _not_utf8(file) from None


def _parquet_rows(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    from pyarrow.parquet import ParquetFile

    try:
        table = ParquetFile(file)
        if twice := _repeated(table.schema_arrow.names):
            raise UserError(f'{file}: there are two columns "{twice}".', "Give every column its own name.")
        batches = (batch.to_pylist() for batch in table.iter_batches(batch_size=1000))
        for number, row in enumerate((row for batch in batches for row in batch), start=1):
            yield f"{file}, row {number}", row
    except (ValueError, OSError) as error:  # includes Arrow's errors
        reason = " ".join(str(error).split()).rstrip(".")
        raise UserError(f"{file}: not a valid Parquet file: {_shortened(reason, 160)}.", "Write the file again.") from None


def _repeated(names: Sequence[str]) -> str | None:
    """The first name that occurs twice, or None."""
    return next((name for place, name in enumerate(names) if name in names[:place]), None)


def _not_utf8(file: Path) -> UserError:
    """The error for a file that is not UTF-8, with the line and byte."""
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                return UserError(f"{file}, line {number}: byte {error.start} is not UTF-8.", "Save the file as UTF-8.")
    return UserError(f"{file} is not UTF-8.", "Save the file as UTF-8.")


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # not a valid file name
        return False


def _shortened(text: str, length: int = 100) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _json_lines(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb") as lines:
        for number, line in enumerate(_whole(lines, file), start=1):
            place = f"{file}, line {number}"
            if not line.strip():
                continue
            try:
                # some programs start UTF-8 files with a byte order mark
                row = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n"))
            except UnicodeDecodeError as error:
                raise UserError(f"{place}: byte {error.start} is not UTF-8.", "Save the file as UTF-8.") from None
            except json.JSONDecodeError as error:
                raise UserError(f"{place}: not valid JSON: {error.msg} at column {error.colno}.", ONE_PER_LINE) from None
            except (RecursionError, ValueError) as error:
                raise UserError(f"{place}: this JSON cannot be read: {error}.", ONE_PER_LINE) from None
            if not isinstance(row, dict):
                raise UserError(f"{place}: expected a JSON object, got {type(row).__name__}.", ONE_PER_LINE)
            yield place, row


def _whole(lines: Iterable[bytes], file: Path) -> Iterator[bytes]:
    """The lines of a file; a damaged gzip file is an error."""
    try:
        yield from lines
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        hint = "Compress it again or, if it is not compressed, rename it to .jsonl."
        raise UserError(f"{file}: not a complete gzip file: {str(error).rstrip('.')}.", hint) from None
