"""Token ids of many rows in a file without a name, which goes with the process; memory holds where each row begins."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from aloll_cli.files import unnamed

if TYPE_CHECKING:
    import pyarrow as pa

    from aloll_cli.arrays import IntArray
    from aloll_cli.store.rows import Rows

CHUNK = 4096  # rows that are copied at a time
STORED = np.dtype(np.int32)


class TokenFile:
    """Prompts and responses by row, as token ids: 4 bytes per token on disk, 24 per row in memory."""

    def __init__(self, table: Rows, names: Sequence[str], rows: IntArray | None, near: Path) -> None:
        """Copy token ids out of a table.

        Args:
            table: the table.
            names: its columns of token ids, of prompt_ids and response_ids.
            rows: (n,) the rows, ascending, each once; None for all.
            near: a folder on a disk with room for them; the system's temporary folder where it cannot be written to.
        """
        self._rows = rows
        self._file = unnamed(near)
        weakref.finalize(self, self._file.close)
        pieces = {name: [np.zeros(0, dtype=np.int32)] for name in names}
        starts = {name: [np.zeros(0, dtype=np.int64)] for name in names}
        place = 0
        for part in table.batches() if rows is None else _taken(table, rows):
            for name in names:
                column = part.column(name).combine_chunks()
                lengths = column.value_lengths().to_numpy().astype(np.int32)
                pieces[name].append(lengths)
                starts[name].append(place + np.cumsum(lengths, dtype=np.int64) - lengths)
                self._file.write(column.flatten().to_numpy().astype(STORED).tobytes())
                place += int(lengths.sum())
        self._file.flush()
        self._lengths = {name: np.concatenate(each) for name, each in pieces.items()}
        self._starts = {name: np.concatenate(each) for name, each in starts.items()}

    def prompt_ids(self, row: int) -> IntArray:
        """Token ids of a row's prompt. Raises KeyError for a row that was not copied."""
        return self._ids("prompt_ids", row)

    def response_ids(self, row: int) -> IntArray:
        """Token ids of a row's response. Raises KeyError for a row that was not copied."""
        return self._ids("response_ids", row)

    def prompt_lengths(self, rows: IntArray) -> IntArray:
        """(n,) number of tokens of the prompts of n rows. Raises KeyError for a row that was not copied."""
        return self._lengths["prompt_ids"][self._places(rows)].astype(np.int64)

    def response_lengths(self, rows: IntArray) -> IntArray:
        """(n,) number of tokens of the responses of n rows. Raises KeyError for a row that was not copied."""
        return self._lengths["response_ids"][self._places(rows)].astype(np.int64)

    def _ids(self, name: str, row: int) -> IntArray:
        (place,) = self._places(np.array([row]))
        length, start = int(self._lengths[name][place]) * STORED.itemsize, int(self._starts[name][place]) * STORED.itemsize
        return np.frombuffer(os.pread(self._file.fileno(), length, start), dtype=STORED).astype(np.int64)

    def _places(self, rows: IntArray) -> IntArray:
        """(n,) where rows stand among those that were copied."""
        if self._rows is None:
            return rows
        places = np.minimum(np.searchsorted(self._rows, rows), len(self._rows) - 1)
        if len(missing := rows[self._rows[places] != rows]):
            raise KeyError(int(missing[0]))
        return places


def _taken(table: Rows, rows: IntArray) -> Iterator[pa.Table]:
    for start in range(0, len(rows), CHUNK):
        yield table.take(rows[start : start + CHUNK])
