"""Rows of stored tables, of which only some are in memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aloll_cli.foreign import Unreadable, damaged

if TYPE_CHECKING:
    import pyarrow as pa

    from aloll_cli.arrays import IntArray

HELD = 64 << 20  # bytes of row groups that stay in memory, besides the one in use
TOGETHER = 4096  # rows that are read at a time where all are read


class Rows(ABC):
    """The rows of a table."""

    @property
    @abstractmethod
    def num_rows(self) -> int:
        """Their number."""

    @abstractmethod
    def slice(self, start: int, length: int) -> pa.Table:
        """``length`` rows from ``start`` on."""

    @abstractmethod
    def take(self, rows: IntArray) -> pa.Table:
        """Rows by index, at least one and in ascending order."""

    @abstractmethod
    def batches(self) -> Iterator[pa.Table]:
        """All rows, part by part."""


class TableRows(Rows):
    """The rows of a table in memory."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    @property
    def num_rows(self) -> int:
        return int(self._table.num_rows)

    def slice(self, start: int, length: int) -> pa.Table:
        return self._table.slice(start, length)

    def take(self, rows: IntArray) -> pa.Table:
        return self._table.take(rows)

    def batches(self) -> Iterator[pa.Table]:
        yield self._table


class StoredRows(Rows):
    """The rows of one or more Parquet files, of which only some row groups are in memory."""

    def __init__(self, files: Sequence[Path], columns: Sequence[str] | None = None) -> None:
        """Open files; ``columns`` are those to read, None for all."""
        import numpy as np
        import pyarrow.parquet as pq

        self._columns = None if columns is None else list(columns)
        self._groups: list[tuple[Path, int]] = []
        sizes = [0]
        for file in files:
            with reading_parquet(file):
                found = pq.read_metadata(file)
                _check_columns(found.schema.to_arrow_schema(), self._columns or ())
            self._groups += [(file, group) for group in range(found.num_row_groups)]
            sizes += [found.row_group(group).num_rows for group in range(found.num_row_groups)]
        self._starts = np.cumsum(sizes)
        self._file: tuple[Path, Any] | None = None  # the one that was read last stays open: opening takes longer than reading
        self._read: dict[int, pa.Table] = {}  # the row group that was asked for last comes last
        self._bytes = 0  # of these

    @property
    def num_rows(self) -> int:
        return int(self._starts[-1])

    def slice(self, start: int, length: int) -> pa.Table:
        import numpy as np
        import pyarrow as pa

        first, last = np.searchsorted(self._starts, [start, start + max(length, 1) - 1], side="right") - 1
        first = min(first, len(self._groups) - 1)  # none of the rows at the end
        wanted = range(int(first), min(int(last), len(self._groups) - 1) + 1)
        return pa.concat_tables([self._held(i) for i in wanted]).slice(start - int(self._starts[first]), length)

    def take(self, rows: IntArray) -> pa.Table:
        import numpy as np
        import pyarrow as pa

        groups, begins = np.unique(np.searchsorted(self._starts, rows, side="right") - 1, return_index=True)
        chosen = zip(groups.tolist(), np.split(rows, begins[1:]), strict=True)
        return pa.concat_tables([self._held(i).take(mine - self._starts[i]) for i, mine in chosen])

    def batches(self) -> Iterator[pa.Table]:
        for file, groups in groupby(range(len(self._groups)), lambda number: self._groups[number][0]):
            together: list[int] = []
            for number in groups:
                if together and self._starts[number + 1] - self._starts[together[0]] > TOGETHER:
                    yield self._groups_of(file, together)
                    together = []
                together.append(number)
            yield self._groups_of(file, together)

    def _held(self, number: int) -> pa.Table:
        """A row group; as many as HELD allows of those that were asked for last stay in memory."""
        if number in self._read:
            self._read[number] = found = self._read.pop(number)
            return found
        self._read[number] = found = self._groups_of(self._groups[number][0], [number])
        self._bytes += found.nbytes
        while len(self._read) > 1 and self._bytes > HELD:
            self._bytes -= self._read.pop(next(iter(self._read))).nbytes
        return found

    def _groups_of(self, file: Path, numbers: Sequence[int]) -> pa.Table:
        """Some row groups of a file, by their numbers in the table."""
        import pyarrow.parquet as pq

        own = [self._groups[number][1] for number in numbers]
        with reading_parquet(file):
            if self._file is None or self._file[0] != file:
                self._file = file, pq.ParquetFile(file)
            return self._file[1].read_row_groups(own, columns=self._columns, use_threads=False)


def read_file(file: Path, columns: Sequence[str] | None) -> pa.Table:
    """One Parquet file of an artifact: all columns, or those named and the rows' places. Raises UserError if it is damaged."""
    import pyarrow.parquet as pq

    with reading_parquet(file):
        parquet = pq.ParquetFile(file)
        if columns is None:
            return parquet.read(use_threads=False)
        wanted = [*columns, *({"place"} & set(parquet.schema_arrow.names))]
        _check_columns(parquet.schema_arrow, columns)
        return parquet.read(columns=wanted, use_threads=False)


def _check_columns(found: pa.Schema, columns: Sequence[str]) -> None:
    if missing := set(columns) - set(found.names):
        raise Unreadable(f"has no column {min(missing)}")


@contextmanager
def reading_parquet(file: Path) -> Iterator[None]:
    """Raises UserError where a file is no Parquet file, or has other columns."""
    from pyarrow import ArrowException

    with damaged(file):
        try:
            yield
        except ArrowException as error:
            raise Unreadable(f"is no Parquet file of ours: {' '.join(str(error).split())[:200]}") from None
