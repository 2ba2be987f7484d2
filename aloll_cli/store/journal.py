"""Checksums of what is finished in an unfinished artifact: blocks of tables, and the policy that was selected.

Each process appends to a file of its own, ``.sums-<rank>.jsonl``, before it renames what it has written. A resumed build takes
only what is as it was noted, and the manifest certifies nothing else; it replaces these files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from aloll_cli.files import open_to_append, sha256
from aloll_cli.foreign import LARGEST, Unreadable, inner_path, integer, parsed, read_bytes, record, text

FILES = ".sums-*.jsonl"
ENTRY = record({"file": inner_path, "bytes": integer, "sha256": text})


class Journal:
    """The checksums of one unfinished artifact."""

    def __init__(self, directory: Path, rank: int) -> None:
        self._directory, self._rank = directory, rank

    def note(self, sums: Mapping[str, Mapping[str, Any]]) -> None:
        """Note sizes and checksums, by relative path."""
        with open_to_append(self._directory / f".sums-{self._rank}.jsonl") as stream:
            for name, entry in sums.items():
                stream.write(json.dumps({"file": name} | dict(entry)) + "\n")

    def note_file(self, written: Path, final: Path) -> None:
        """Note a file that is about to be renamed."""
        sums = {"bytes": written.stat().st_size, "sha256": sha256(written)}
        self.note({str(final.relative_to(self._directory)): sums})

    def noted(self) -> dict[str, set[tuple[int, str]]]:
        """Sizes and checksums that any process noted, by relative path; a file may have been written more than once."""
        found: dict[str, set[tuple[int, str]]] = {}
        for file in self._directory.glob(FILES):
            with suppress(OSError, Unreadable):
                for line in read_bytes(file, LARGEST).splitlines():
                    with suppress(Unreadable):  # torn by a kill, or damaged: what it is about counts as not there
                        entry = parsed(line)
                        ENTRY(entry, "")
                        found.setdefault(entry["file"], set()).add((entry["bytes"], entry["sha256"]))
        return found

    def remove(self) -> set[str]:
        """Remove the checksums, which the manifest replaces; returns the names of their files."""
        files = list(self._directory.glob(FILES))
        for file in files:
            file.unlink()
        return {file.name for file in files}


def is_as_noted(file: Path, noted: set[tuple[int, str]]) -> bool:
    """Whether a file is there with one of some sizes and checksums."""
    if file.is_symlink() or not file.is_file():
        return False
    size = file.stat().st_size
    return any(size == expected for expected, _ in noted) and (size, sha256(file)) in noted
