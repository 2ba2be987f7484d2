"""Where rows are read from: local files or a hub data set.

JSON Lines is read here, line by line, so that an error names its line; CSV, Parquet and hub data sets are streamed by
`datasets`.
"""

from __future__ import annotations

import gzip
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
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
        found = {
            split: file
            for split in ("train", "validation", "test")
            for suffix in SUFFIXES
            if (file := root / f"{split}{suffix}").is_file()
        }
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
            from datasets import load_dataset

            kind = file.suffix[1:]
            rows = load_dataset(kind, data_files=str(file), split="train", streaming=True)
            for number, row in enumerate(rows, start=1):
                yield f"{file}, row {number}", dict(row)


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
    from huggingface_hub import HfApi, scan_cache_dir
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        return str(HfApi().dataset_info(name, timeout=10).sha)
    except (HfHubHTTPError, OfflineModeIsEnabled, OSError) as error:
        hint = "Connect to the network, or read local files: task.path=FOLDER"
        try:
            cached = [r for repo in scan_cache_dir().repos if repo.repo_id == name for r in repo.revisions]
        except OSError:
            cached = []
        if not cached:
            raise UserError(f"the data set {name} cannot be reached ({type(error).__name__}).", hint) from None
        return max(cached, key=lambda r: r.last_modified).commit_hash


def _json_lines(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    opener = gzip.open if file.suffix == ".gz" else open
    with opener(file, "rb") as lines:
        for number, line in enumerate(lines, start=1):
            place = f"{file}, line {number}"
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode("utf-8"))
            except UnicodeDecodeError as error:
                raise UserError(f"{place}: byte {error.start} is not UTF-8.", "Save the file as UTF-8.") from None
            except json.JSONDecodeError as error:
                raise UserError(f"{place}: not JSON: {error.msg} at column {error.colno}.", "Correct that line.") from None
            if not isinstance(row, dict):
                raise UserError(f"{place}: a JSON object is needed, not {type(row).__name__}.", "Correct that line.")
            yield place, row
