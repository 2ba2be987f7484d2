"""Tables keyed by example id: Parquet in blocks of a fixed number of rows.

Blocks are written atomically, with a checksum in the build's journal; a block that differs from it is computed again. A block
is the unit of resuming and of sharing work between processes; a table of more than a million rows has larger blocks, in 4,096
files at most. If rows are computed in another order than that of the table, blocks hold them in the order of computation and
a column ``place`` with the position of each row in the table.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aloll_cli.errors import UserError
from aloll_cli.files import of_the_machine
from aloll_cli.foreign import Unreadable, damaged
from aloll_cli.store.journal import Journal, is_as_noted
from aloll_cli.store.rows import Rows, StoredRows, TableRows, read_file, reading_parquet
from aloll_cli.user_code import plugin_errors

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from aloll_cli.store.store import Job

BLOCK = 256  # rows; part of the file format of artifacts
ROW_GROUP = 512  # rows that are read together where only some of a block are needed
MOST_BLOCKS = 4096  # of a table; one with more rows than these hold has larger ones


def write_blocks(
    job: Job, name: str, rows: int, label: str, compute: Callable[[int, int], pa.Table], block: int | None = None
) -> None:
    """Write a table block by block; blocks of an interrupted run are kept if their checksums are right.

    Args:
        job: the build; the table becomes the folder ``name`` in its directory.
        name: of the folder.
        rows: number of rows of the table.
        label: of the progress bar.
        compute: (start, stop) → the table of those rows; may count them with ``job.log.advance`` meanwhile.
        block: rows per block, for rows that are cheap to compute; None for BLOCK, or more in a large table.

    Raises:
        UserError: the first error of any process.
        Interrupted: a stop was requested; finished blocks are kept.
    """
    folder = job.directory / name
    folder.mkdir(parents=True, exist_ok=True)
    grown = block is None and rows > BLOCK * MOST_BLOCKS
    block = -(-rows // (BLOCK * MOST_BLOCKS)) * BLOCK if grown else block or BLOCK
    starts = range(0, rows, block)
    parts = [folder / f"part-{i:05d}{f'x{block}' if grown else ''}.parquet" for i in range(len(starts))]
    mine = [i for i in range(len(starts)) if i % job.world.size == job.world.rank]
    journal = Journal(job.directory, job.world.rank)
    noted = journal.noted()
    found = {i for i in mine if parts[i].exists()}
    kept = {i for i in found if is_as_noted(parts[i], noted.get(f"{name}/{parts[i].name}", set()))}
    left = [i for i in mine if i not in kept]
    if job.world.is_main:
        _remove_others(folder, parts)
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
                write_table(parts[i], table, journal)
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
    pq.write_table(table, temporary, compression="zstd", row_group_size=ROW_GROUP)
    journal.note_file(temporary, file)
    os.replace(temporary, file)


def _remove_others(folder: Path, parts: Sequence[Path]) -> None:
    """Remove blocks that this table never had: beyond the last one, or of another size."""
    for part in set(folder.glob("part-*.parquet")) - set(parts):
        part.unlink()


def read_blocks(folder: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """The table in a folder of blocks, with its rows in order; all columns, or those named."""
    import pyarrow as pa

    table = pa.concat_tables([read_file(part, columns) for part in _parts(folder)])
    if "place" in table.column_names:
        table = table.sort_by("place").drop_columns("place")
    return table.combine_chunks()


def open_blocks(folder: Path, columns: Sequence[str]) -> Rows:
    """The same table, read a few blocks at a time if its rows are stored in order."""
    if "place" in columns_of(folder):
        return TableRows(read_blocks(folder, columns))
    return StoredRows(_parts(folder), columns)


def columns_of(folder: Path) -> list[str]:
    """The names of the columns of the table in a folder of blocks."""
    import pyarrow.parquet as pq

    first = _parts(folder)[0]
    with reading_parquet(first):
        names: list[str] = pq.read_schema(first).names
        return names


def read_numbers(folder: Path, name: str) -> np.ndarray[Any, Any]:
    """(N,) a column of numbers, or of truth values, of the table in a folder of blocks; NaN where there is none."""
    import numpy as np

    columns = [batch.column(name).to_numpy() for batch in open_blocks(folder, [name]).batches()]
    return np.concatenate(columns)


def _parts(folder: Path) -> list[Path]:
    """The blocks of a table, at least one."""
    found = sorted(folder.glob("part-*.parquet"))
    with damaged(folder):
        if not found:
            raise Unreadable("has no blocks")
    return found
