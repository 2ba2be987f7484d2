"""Tables keyed by example id: Parquet in blocks of a fixed number of rows.

A block is written beside and renamed whole, so what is there is complete: it is the unit of resuming and of sharing work
between processes. Where rows are computed in another order than that of the table, blocks hold them as they were computed,
and their column ``place`` says where each belongs.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from aloll_cli.errors import UserError
from aloll_cli.files import full_disk

if TYPE_CHECKING:
    import pyarrow as pa

    from aloll_cli.artifacts.base import Job

BLOCK = 256  # rows; part of the artifacts' formats


def write_blocks(job: Job, name: str, rows: int, label: str, compute: Callable[[int, int], pa.Table]) -> None:
    """Make a table block by block, leaving alone the blocks that an interrupted run left.

    Args:
        job: what is being made; the table becomes the folder ``name`` in its directory.
        name: the folder.
        rows: how many rows the table has.
        label: what progress is called.
        compute: (start, stop) → the table of those rows; may count them by ``job.log.advance`` while it goes.

    Raises:
        UserError: the first error that any process met.
        Interrupted: somebody asked to stop; what is there is kept.
    """
    folder = job.directory / name
    folder.mkdir(parents=True, exist_ok=True)
    starts = range(0, rows, BLOCK)
    mine = [i for i in range(len(starts)) if i % job.world.size == job.world.rank]
    left = [i for i in mine if not _part(folder, i).exists()]
    if len(left) < len(mine):
        job.log.say(f"  {label}: resumed, {len(mine) - len(left)} of {len(mine)} blocks were there")
    error: UserError | None = None
    stopped = False
    with job.log.progress(label, rows, rows - sum(min(BLOCK, rows - starts[i]) for i in left)) as meter:
        try:
            for i in left:
                if stopped := job.stopper.requested:
                    break
                stop = min(starts[i] + BLOCK, rows)
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


def write_table(file: Path, table: pa.Table) -> None:
    """Write one Parquet file whole or not at all."""
    import pyarrow.parquet as pq

    beside = file.with_name(f".{file.name}.tmp")
    pq.write_table(table, beside, compression="zstd")
    os.replace(beside, file)


def read_blocks(folder: Path) -> pa.Table:
    """The whole table of a folder of blocks, its rows in their places."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.concat_tables([pq.read_table(part) for part in sorted(folder.glob("part-*.parquet"))])
    if "place" in table.column_names:
        table = table.sort_by("place").drop_columns("place")
    return table.combine_chunks()


def _part(folder: Path, number: int) -> Path:
    return folder / f"part-{number:05d}.parquet"
