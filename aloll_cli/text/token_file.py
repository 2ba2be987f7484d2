"""Token ids of many rows in files without a name, which are deleted when the process ends."""

from __future__ import annotations

import errno
import os
import weakref
from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from aloll_cli.errors import UserError
from aloll_cli.files import unnamed
from aloll_cli.store.tables import open_blocks

if TYPE_CHECKING:
    import pyarrow as pa

    from aloll_cli.arrays import IntArray
    from aloll_cli.store.rows import Rows

CHUNK = 4096  # rows that are copied at a time
STORED = np.dtype(np.int32)
FULL = (errno.ENOSPC, errno.EDQUOT)


class TokenFile:
    """A column of token ids: 4 bytes per token on disk; memory holds where each row begins, and how long it is."""

    def __init__(self, table: Rows, name: str, rows: IntArray | None, near: Path) -> None:
        """Copy token ids out of a table.

        Args:
            table: the table.
            name: the column.
            rows: (n,) the rows, ascending, each once; None for all.
            near: a folder on a disk with room for them; the system's temporary folder where it cannot be written to.

        Raises:
            UserError: the disk is full.
        """
        self._rows = rows
        self._file, self._folder = unnamed(near)
        weakref.finalize(self, _close, self._file)
        lengths = [np.zeros(0, dtype=np.int32)]
        for part in table.batches() if rows is None else _taken(table, rows):
            column = part.column(name).combine_chunks()
            lengths.append(column.value_lengths().to_numpy().astype(np.int32))
            self._write(column.flatten().to_numpy().astype(STORED).tobytes())
        self._lengths = np.concatenate(lengths)
        self._starts = np.cumsum(self._lengths, dtype=np.int64) - self._lengths

    def ids(self, row: int) -> IntArray:
        """Token ids of a row. Raises KeyError for a row that was not copied."""
        (place,) = self._places(np.array([row]))
        length, start = int(self._lengths[place]) * STORED.itemsize, int(self._starts[place]) * STORED.itemsize
        return np.frombuffer(os.pread(self._file.fileno(), length, start), dtype=STORED).astype(np.int64)

    def lengths(self, rows: IntArray) -> IntArray:
        """(n,) number of tokens of n rows. Raises KeyError for a row that was not copied."""
        return self._lengths[self._places(rows)].astype(np.int64)

    def _places(self, rows: IntArray) -> IntArray:
        """(n,) where rows stand among those that were copied."""
        if self._rows is None:
            return rows
        places = np.minimum(np.searchsorted(self._rows, rows), len(self._rows) - 1)
        if len(missing := rows[self._rows[places] != rows]):
            raise KeyError(int(missing[0]))
        return places

    def _write(self, content: bytes) -> None:
        left = memoryview(content)
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            if error.errno not in FULL:
                raise
            what = f"{self._folder}: no space is left for a copy of the token ids that training draws from."
            raise UserError(what, "Free some space, or draw fewer responses: updates=, task.limit=") from None


class StoredTokens:
    """Prompts and responses of a table by row, as token ids; each column is copied when it is first used.

    Attributes:
        directory: the table, a folder of blocks.
        rows: (n,) those of its rows that are copied, ascending; None for all.
    """

    directory: Path
    rows: IntArray | None = None

    def __init__(self, directory: Path, rows: IntArray | None) -> None:
        self.directory, self.rows = directory, rows

    def prompt_ids(self, row: int) -> IntArray:
        """Token ids of a row's prompt. Raises KeyError for a row that was not copied."""
        return self._prompts.ids(row)

    def response_ids(self, row: int) -> IntArray:
        """Token ids of a row's response. Raises KeyError for a row that was not copied."""
        return self._responses.ids(row)

    def prompt_lengths(self, rows: IntArray) -> IntArray:
        """(n,) number of tokens of the prompts of n rows. Raises KeyError for a row that was not copied."""
        return self._prompts.lengths(rows)

    def response_lengths(self, rows: IntArray) -> IntArray:
        """(n,) number of tokens of the responses of n rows. Raises KeyError for a row that was not copied."""
        return self._responses.lengths(rows)

    @cached_property
    def _prompts(self) -> TokenFile:
        return self._copied("prompt_ids")

    @cached_property
    def _responses(self) -> TokenFile:
        return self._copied("response_ids")

    def _copied(self, name: str) -> TokenFile:
        return TokenFile(open_blocks(self.directory, [name]), name, self.rows, near=self.directory.parent)


def _taken(table: Rows, rows: IntArray) -> Iterator[pa.Table]:
    for start in range(0, len(rows), CHUNK):
        yield table.take(rows[start : start + CHUNK])


def _close(file: BinaryIO) -> None:
    with suppress(OSError):  # a full disk
        file.close()
