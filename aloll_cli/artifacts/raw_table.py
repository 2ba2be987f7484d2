"""The raw rows of each split as stored tables."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any

from aloll_cli.store.rows import Rows, StoredRows, read_file
from aloll_cli.tasks.base import Record, plain_prompt

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

CHUNK = 10_000  # responses held as Python objects at a time


class SplitWriter:
    """Writes the responses of one split in chunks."""

    def __init__(self, directory: Path, split: str) -> None:
        self._file, self._temporary = directory / f"{split}.parquet", directory / f".{split}.parquet.tmp"
        self._chunk: list[dict[str, Any]] = []
        self._groups = array("Q")  # ids of the prompts as integers, so that millions of rows fit in memory

    def __enter__(self) -> SplitWriter:
        import pyarrow.parquet as pq

        self._writer = pq.ParquetWriter(self._temporary, _schema(), compression="zstd")
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._flush()
        self._writer.close()
        if kind is None:
            self._temporary.rename(self._file)

    def add(self, name: str, record: Record) -> None:
        self._groups.append(int(record.group, 16))
        self._chunk.append(_as_row(name, record))
        if len(self._chunk) == CHUNK:
            self._flush()

    def _flush(self) -> None:
        self._writer.write_table(_table(self._chunk))
        self._chunk.clear()

    @property
    def groups(self) -> npt.NDArray[np.uint64]:
        """(N,) ids of the prompts."""
        import numpy as np

        return np.frombuffer(self._groups, dtype=np.uint64) if self._groups else np.array([], dtype=np.uint64)

    def leave_out(self, groups: npt.NDArray[np.uint64]) -> int:
        """Rewrite the file without the responses to these prompts; returns how many were left out."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.parquet as pq

        before, start = self.groups, 0
        self._groups = array("Q")
        with pq.ParquetWriter(self._temporary, _schema(), compression="zstd") as writer:
            for batch in StoredRows([self._file]).batches():
                own = before[start : start + batch.num_rows]
                kept = ~np.isin(own, groups, kind="sort")
                writer.write_table(batch.filter(pa.array(kept)))
                self._groups.frombytes(own[kept].tobytes())
                start += batch.num_rows
        self._temporary.rename(self._file)
        return len(before) - len(self._groups)

    def find(self, group: int) -> tuple[int, str]:
        """The number of a prompt's first row in its source, counted from 1, and the prompt's text."""
        import pyarrow.parquet as pq

        from aloll_cli.keys import name_of_key

        (row, *_) = pq.read_table(self._file, filters=[("group", "=", name_of_key(group))]).to_pylist()
        return int(row["id"].split("-")[1]) + 1, plain_prompt(row["parts"])


def load_data(directory: Path, split: str, columns: list[str] | None = None) -> pa.Table:
    """The raw responses of a split: columns id, group, position, parts, response, stored, subset; or some of them."""
    return read_file(directory / f"{split}.parquet", columns or _schema().names)


def open_data(directory: Path, split: str, columns: list[str] | None = None) -> Rows:
    """The same for large tables: only a few row groups are in memory at a time."""
    return StoredRows([directory / f"{split}.parquet"], columns or _schema().names)


def _as_row(name: str, record: Record) -> dict[str, Any]:
    parts = [vars(part) for part in record.parts]
    return {
        "id": name, "group": record.group, "position": record.position, "parts": parts,
        "response": record.response, "stored": record.reward, "subset": record.subset,
    }  # fmt: skip


def _schema() -> pa.Schema:
    import pyarrow as pa

    part = pa.struct([
        ("text", pa.string()), ("role", pa.string()), ("drop", pa.int64()), ("whole", pa.bool_()), ("eos", pa.bool_()),
        ("prefix", pa.string()), ("source", pa.bool_()),
    ])  # fmt: skip
    return pa.schema([
        ("id", pa.string()), ("group", pa.string()), ("position", pa.int64()), ("parts", pa.list_(part)),
        ("response", pa.string()), ("stored", pa.float64()), ("subset", pa.string()),
    ])  # fmt: skip


def _table(rows: list[dict[str, Any]]) -> pa.Table:
    import pyarrow as pa

    return pa.Table.from_pylist(rows, schema=_schema())
