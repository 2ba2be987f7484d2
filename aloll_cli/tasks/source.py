"""Where rows are read from: local files or a hub data set.

JSON Lines is read here, line by line, so that an error names its line; CSV, Parquet and hub data sets are streamed by
`datasets`.
"""

from __future__ import annotations

import gzip
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from aloll_cli.errors import UserError
from aloll_cli.files import sha256

SUFFIXES = (".jsonl", ".jsonl.gz", ".csv", ".parquet")


class Source(ABC):
    """Rows by split."""

    @abstractmethod
    def splits(self) -> tuple[str, ...]:
        """The splits that the source itself has; ("all",) where rows are to be split by prompt."""

    @abstractmethod
    def rows(self, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """(place, row) in order; the place is what an error names."""

    @abstractmethod
    def content(self) -> dict[str, str]:
        """What identifies the rows: hashes of files, or a resolved revision. Never a path."""


class LocalSource(Source):
    """A folder with train, validation and test files, or one file."""

    def __init__(self, path: str) -> None:
        root = Path(path).expanduser()
        if not root.exists():
            raise UserError(f"task.path={path}: there is no such file or folder.", "task.path=FOLDER or FILE.jsonl")
        if root.is_file():
            if not root.name.endswith(SUFFIXES):
                raise UserError(f"task.path={path}: the name ends in none of {', '.join(SUFFIXES)}.", "task.path=FILE.jsonl")
            self.files = {"all": root}
            return
        found = {}
        for split in ("train", "validation", "test"):
            files = [file for suffix in SUFFIXES if (file := root / f"{split}{suffix}").is_file()]
            if len(files) > 1:
                names = " and ".join(file.name for file in files)
                raise UserError(f"task.path={path}: {names} are both there.", "Leave one file for each split.")
            if files:
                found[split] = files[0]
        if "train" not in found:
            raise UserError(
                f"task.path={path}: the folder holds no train file.", "Name it train.jsonl (.jsonl.gz, .csv, .parquet)."
            )
        self.files = found

    def splits(self) -> tuple[str, ...]:
        return tuple(self.files)

    def content(self) -> dict[str, str]:
        return {split: sha256(file) for split, file in self.files.items()}

    def rows(self, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
        file = self.files[split]
        if file.name.endswith((".jsonl", ".jsonl.gz")):
            yield from _json_lines(file)
        else:
            yield from _table_rows(file)


class HubSource(Source):
    """A public data set by its name, at the revision that its branch points to now."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._revision: str | None = None

    @property
    def revision(self) -> str:
        """The resolved commit, from the hub or, offline, from the local cache."""
        if self._revision is None:
            self._revision = _hub_revision(self.name)
        return self._revision

    def splits(self) -> tuple[str, ...]:
        from datasets import get_dataset_split_names

        return tuple(get_dataset_split_names(self.name, revision=self.revision))

    def content(self) -> dict[str, str]:
        return {"hub": self.name, "revision": self.revision}

    def rows(self, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
        from datasets import load_dataset

        rows = load_dataset(self.name, split=split, revision=self.revision, streaming=True)
        for number, row in enumerate(rows, start=1):
            yield f"{self.name}, {split} row {number}", dict(row)


def _hub_revision(name: str) -> str:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        # one small file resolves the revision, from the hub or, offline, from the cache
        return Path(snapshot_download(name, repo_type="dataset", allow_patterns=["README.md"], etag_timeout=10)).name
    except (HfHubHTTPError, OSError) as error:
        hint = "Connect to the network, or read local files: task.path=FOLDER"
        raise UserError(f"the data set {name} cannot be reached ({type(error).__name__}).", hint) from None


def _table_rows(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    from datasets import load_dataset
    from pyarrow import ArrowInvalid

    try:
        for number, row in enumerate(load_dataset(file.suffix[1:], data_files=str(file), split="train", streaming=True), start=1):
            yield f"{file}, row {number}", dict(row)
    except (ArrowInvalid, UnicodeDecodeError) as error:
        raise UserError(f"{file}: not a {file.suffix[1:]} file: {error}.", "Save it again.") from None


def _json_lines(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb") as lines:
        for number, line in enumerate(_whole(lines, file), start=1):
            place = f"{file}, line {number}"
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode("utf-8").rstrip("\r\n"))
            except UnicodeDecodeError as error:
                raise UserError(f"{place}: byte {error.start} is not UTF-8.", "Save the file as UTF-8.") from None
            except json.JSONDecodeError as error:
                raise UserError(f"{place}: not JSON: {error.msg} at column {error.colno}.", "Correct that line.") from None
            if not isinstance(row, dict):
                raise UserError(f"{place}: a JSON object is needed, not {type(row).__name__}.", "Correct that line.")
            yield place, row


def _whole(lines: Iterable[bytes], file: Path) -> Iterator[bytes]:
    """The lines of a file that may be compressed."""
    try:
        yield from lines
    except (gzip.BadGzipFile, EOFError) as error:
        raise UserError(f"{file}: not a whole gzip file: {error}", "Compress it again.") from None
