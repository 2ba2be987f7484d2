"""Tables keyed by example id: Parquet in blocks of a fixed number of rows.

Blocks are written atomically, with a checksum in the build's journal; a block that differs from it is computed again. A block
is the unit of resuming and of sharing work between processes. If rows are computed in another order than that of the table,
blocks hold them in the order of computation and a column ``place`` with the position of each row in the table.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from aloll_cli.errors import UserError
from aloll_cli.files import of_the_machine
from aloll_cli.foreign import Unreadable, damaged
from aloll_cli.store.journal import Journal, is_as_noted
from aloll_cli.user_code import plugin_errors

if TYPE_CHECKING:
    import pyarrow as pa

    from aloll_cli.arrays import IntArray
    from aloll_cli.store.store import Job

BLOCK = 256  # rows; part of the file format of artifacts


def write_blocks(job: Job, name: str, rows: int, label: str, compute: Callable[[int, int], pa.Table], block: int = BLOCK) -> None:
    """Write a table block by block; blocks of an interrupted run are kept if their checksums are right.

    Args:
        job: the build; the table becomes the folder ``name`` in its directory.
        name: of the folder.
        rows: number of rows of the table.
        label: of the progress bar.
        compute: (start, stop) → the table of those rows; may count them with ``job.log.advance`` meanwhile.
        block: rows per block; larger for rows that are cheap to compute.

    Raises:
        UserError: the first error of any process.
        Interrupted: a stop was requested; finished blocks are kept.
    """
    folder = job.directory / name
    folder.mkdir(parents=True, exist_ok=True)
    starts = range(0, rows, block)
    mine = [i for i in range(len(starts)) if i % job.world.size == job.world.rank]
    journal = Journal(job.directory, job.world.rank)
    noted = journal.noted()
    found = {i for i in mine if _part(folder, i).exists()}
    kept = {i for i in found if is_as_noted(_part(folder, i), noted.get(f"{name}/{_part(folder, i).name}", set()))}
    left = [i for i in mine if i not in kept]
    if job.world.is_main:
        _remove_others(folder, len(starts))
    if kept:
        job.log.say(f"  {label}: resumed with {len(kept)} of {len(mine)} blocks done")
    if found - kept:
        job.log.warn(f"{label}: {len(found - kept)} unfinished or damaged blocks are computed again")
    error: UserError | None = None
    stopped = False
    done = rows - sum(min(block, rows - starts[i]) for i in left)
    with job.log.progress(label, rows, done) as meter, _frozen_garbage_collector():
        try:
            for i in left:
                if stopped := job.stopper.requested:
                    break
                stop = min(starts[i] + block, rows)
                uncounted = meter.done + stop - starts[i]
                with plugin_errors():
                    table = compute(starts[i], stop)
                write_table(_part(folder, i), table, journal)
                meter.advance(uncounted - meter.done)
        except UserError as raised:
            error = raised
        except Exception as raised:
            error = of_the_machine(raised, job.directory)
            if error is None:
                raise
    job.world.agree(error)
    if any(job.world.gather(stopped)):  # max_hours may have passed in one process only
        raise job.stopper.interruption()


@contextmanager
def _frozen_garbage_collector() -> Iterator[None]:
    """Hides existing objects, a million of libraries, from the garbage collector; this saves a fifth of the encoding time."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def write_table(file: Path, table: pa.Table, journal: Journal) -> None:
    """Write one Parquet file atomically, and its checksum into a journal."""
    import pyarrow.parquet as pq

    temporary = file.with_name(f".{file.name}.tmp")
    pq.write_table(table, temporary, compression="zstd")
    journal.note_file(temporary, file)
    os.replace(temporary, file)


def _remove_others(folder: Path, count: int) -> None:
    """Remove blocks beyond the last one, which this table never had."""
    names = {_part(folder, i).name for i in range(count)}
    for part in folder.glob("part-*.parquet"):
        if part.name not in names:
            part.unlink()


def read_blocks(folder: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """The table in a folder of blocks, with its rows in order; all columns, or those named."""
    import pyarrow as pa

    table = pa.concat_tables([read_file(part, columns) for part in _parts(folder)])
    if "place" in table.column_names:
        table = table.sort_by("place").drop_columns("place")
    return table.combine_chunks()


def open_blocks(folder: Path, columns: Sequence[str]) -> Rows | pa.Table:
    """The same table, read a few blocks at a time if its rows are stored in order; both have ``num_rows`` and ``slice``."""
    import pyarrow.parquet as pq

    parts = _parts(folder)
    with _reading(parts[0]):
        is_sorted = "place" not in pq.read_schema(parts[0]).names
    return Rows(parts, columns) if is_sorted else read_blocks(folder, columns)


class Rows:
    """The rows of one or more Parquet files; only a few row groups are in memory at a time."""

    def __init__(self, files: Sequence[Path], columns: Sequence[str] | None = None) -> None:
        """Open files; ``columns`` are those to read, None for all."""
        import numpy as np
        import pyarrow.parquet as pq

        self._columns = None if columns is None else list(columns)
        self._groups: list[tuple[Path, int]] = []
        sizes = [0]
        for file in files:
            with _reading(file):
                found = pq.read_metadata(file)
                _check_columns(found.schema.to_arrow_schema(), self._columns or ())
            self._groups += [(file, group) for group in range(found.num_row_groups)]
            sizes += [found.row_group(group).num_rows for group in range(found.num_row_groups)]
        self._starts = np.cumsum(sizes)
        self._read: dict[int, pa.Table] = {}

    @property
    def num_rows(self) -> int:
        return int(self._starts[-1])

    def slice(self, start: int, length: int) -> pa.Table:
        """``length`` rows from ``start`` on."""
        import numpy as np
        import pyarrow as pa

        first, last = np.searchsorted(self._starts, [start, start + max(length, 1) - 1], side="right") - 1
        wanted = range(int(first), min(int(last), len(self._groups) - 1) + 1)
        self._read = {i: self._read[i] if i in self._read else self._group(i) for i in wanted}
        return pa.concat_tables(self._read.values()).slice(start - int(self._starts[first]), length)

    def take(self, rows: IntArray) -> pa.Table:
        """Rows by index, at least one and in ascending order; one row group is in memory at a time."""
        import numpy as np
        import pyarrow as pa

        groups = np.searchsorted(self._starts, rows, side="right") - 1
        pieces = []
        for i in map(int, np.unique(groups)):
            self._read = {i: self._read[i] if i in self._read else self._group(i)}
            pieces.append(self._read[i].take(rows[groups == i] - self._starts[i]))
        return pa.concat_tables(pieces)

    def batches(self) -> Iterator[pa.Table]:
        """All rows, one row group at a time."""
        for i in range(len(self._groups)):
            yield self._group(i)

    def _group(self, number: int) -> pa.Table:
        import pyarrow.parquet as pq

        file, group = self._groups[number]
        with _reading(file):
            return pq.ParquetFile(file).read_row_group(group, columns=self._columns, use_threads=False)


def read_file(file: Path, columns: Sequence[str] | None) -> pa.Table:
    """One Parquet file of an artifact: all columns, or those named and the rows' places. Raises UserError if it is damaged."""
    import pyarrow.parquet as pq

    with _reading(file):
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
def _reading(file: Path) -> Iterator[None]:
    """Raises UserError where a file is no Parquet file, or has other columns."""
    from pyarrow import ArrowException

    with damaged(file):
        try:
            yield
        except ArrowException as error:
            raise Unreadable(f"is no Parquet file of ours: {' '.join(str(error).split())[:200]}") from None


def _parts(folder: Path) -> list[Path]:
    """The blocks of a table, at least one."""
    found = sorted(folder.glob("part-*.parquet"))
    with damaged(folder):
        if not found:
            raise Unreadable("has no blocks")
    return found


def _part(folder: Path, number: int) -> Path:
    return folder / f"part-{number:05d}.parquet"
