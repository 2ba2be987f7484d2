"""Tables keyed by example id: Parquet in blocks of a fixed number of rows.

A block is written beside and renamed whole, so what is there is complete: it is the unit of resuming and of sharing work
between processes. Where rows are computed in another order than that of the table, blocks hold them as they were computed,
and their column ``place`` says where each belongs.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from aloll_cli.errors import UserError
from aloll_cli.files import full_disk

if TYPE_CHECKING:
    import pyarrow as pa

    from aloll_cli.arrays import IntArray
    from aloll_cli.store.store import Job

BLOCK = 256  # rows; part of the artifacts' formats


def write_blocks(job: Job, name: str, rows: int, label: str, compute: Callable[[int, int], pa.Table], block: int = BLOCK) -> None:
    """Make a table block by block, leaving alone the blocks that an interrupted run left.

    Args:
        job: what is being made; the table becomes the folder ``name`` in its directory.
        name: the folder.
        rows: how many rows the table has.
        label: what progress is called.
        compute: (start, stop) → the table of those rows; may count them by ``job.log.advance`` while it goes.
        block: rows of a block; more of them where rows cost little.

    Raises:
        UserError: the first error that any process met.
        Interrupted: somebody asked to stop; what is there is kept.
    """
    folder = job.directory / name
    folder.mkdir(parents=True, exist_ok=True)
    starts = range(0, rows, block)
    mine = [i for i in range(len(starts)) if i % job.world.size == job.world.rank]
    left = [i for i in mine if not _part(folder, i).exists()]
    if len(left) < len(mine):
        job.log.say(f"  {label}: resumed, {len(mine) - len(left)} of {len(mine)} blocks were there")
    error: UserError | None = None
    stopped = False
    there = rows - sum(min(block, rows - starts[i]) for i in left)
    with job.log.progress(label, rows, there) as meter, _unsearched():
        try:
            for i in left:
                if stopped := job.stopper.requested:
                    break
                stop = min(starts[i] + block, rows)
                uncounted = meter.done + stop - starts[i]
                write_table(_part(folder, i), compute(starts[i], stop))
                meter.advance(uncounted - meter.done)
        except UserError as found:
            error = found
        except Exception as found:
            error = full_disk(found, job.directory)
            if error is None:
                raise
    job.world.agree(error)
    if any(job.world.gather(stopped)):  # by one process's clock perhaps
        raise job.stopper.interruption()


@contextmanager
def _unsearched() -> Iterator[None]:
    """Spares the garbage collector what is there already, a million objects of libraries: a fifth of the time of encoding."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def write_table(file: Path, table: pa.Table) -> None:
    """Write one Parquet file whole or not at all."""
    import pyarrow.parquet as pq

    beside = file.with_name(f".{file.name}.tmp")
    pq.write_table(table, beside, compression="zstd")
    os.replace(beside, file)


def read_blocks(folder: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """The whole table of a folder of blocks, its rows in their places; of some columns only where they are named."""
    import pyarrow as pa

    table = pa.concat_tables([_read(part, columns) for part in _parts(folder)])
    if "place" in table.column_names:
        table = table.sort_by("place").drop_columns("place")
    return table.combine_chunks()


def open_blocks(folder: Path, columns: Sequence[str]) -> Rows | pa.Table:
    """The same a few blocks at a time, where the rows lie in their places; both have ``num_rows`` and ``slice``."""
    import pyarrow.parquet as pq

    parts = _parts(folder)
    return read_blocks(folder, columns) if "place" in pq.read_schema(parts[0]).names else Rows(parts, columns)


class Rows:
    """The rows of Parquet files, one file after another, of which a few row groups are in memory at a time."""

    def __init__(self, files: Sequence[Path], columns: Sequence[str] | None = None) -> None:
        """Open files; columns: those to read, all of them where none is named."""
        import numpy as np
        import pyarrow.parquet as pq

        self._columns = None if columns is None else list(columns)
        self._groups: list[tuple[Path, int]] = []
        sizes = [0]
        for file in files:
            found = pq.read_metadata(file)
            self._groups += [(file, group) for group in range(found.num_row_groups)]
            sizes += [found.row_group(group).num_rows for group in range(found.num_row_groups)]
        self._starts = np.cumsum(sizes)
        self._read: dict[int, pa.Table] = {}

    @property
    def num_rows(self) -> int:
        return int(self._starts[-1])

    def slice(self, start: int, length: int) -> pa.Table:
        """Some rows in order."""
        import numpy as np
        import pyarrow as pa

        first, last = np.searchsorted(self._starts, [start, start + max(length, 1) - 1], side="right") - 1
        wanted = range(int(first), min(int(last), len(self._groups) - 1) + 1)
        self._read = {i: self._read[i] if i in self._read else self._group(i) for i in wanted}
        return pa.concat_tables(self._read.values()).slice(start - int(self._starts[first]), length)

    def take(self, rows: IntArray) -> pa.Table:
        """Rows by their numbers, at least one, which ascend; a row group of them is in memory at a time."""
        import numpy as np
        import pyarrow as pa

        groups = np.searchsorted(self._starts, rows, side="right") - 1
        pieces = []
        for i in map(int, np.unique(groups)):
            self._read = {i: self._read[i] if i in self._read else self._group(i)}
            pieces.append(self._read[i].take(rows[groups == i] - self._starts[i]))
        return pa.concat_tables(pieces)

    def batches(self) -> Iterator[pa.Table]:
        """All rows, a row group at a time."""
        for i in range(len(self._groups)):
            yield self._group(i)

    def _group(self, number: int) -> pa.Table:
        import pyarrow.parquet as pq

        file, group = self._groups[number]
        return pq.ParquetFile(file).read_row_group(group, columns=self._columns, use_threads=False)


def _read(file: Path, columns: Sequence[str] | None) -> pa.Table:
    import pyarrow.parquet as pq

    parquet = pq.ParquetFile(file)
    if columns is None:
        return parquet.read(use_threads=False)
    wanted = [*columns, *({"place"} & set(parquet.schema_arrow.names))]
    return parquet.read(columns=wanted, use_threads=False)


def _parts(folder: Path) -> list[Path]:
    return sorted(folder.glob("part-*.parquet"))


def _part(folder: Path, number: int) -> Path:
    return folder / f"part-{number:05d}.parquet"
