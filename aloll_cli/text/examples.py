"""Encoded examples of one split, in memory as Arrow columns."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from aloll_cli.store.tables import read_blocks
from aloll_cli.tasks.selection import numbered

if TYPE_CHECKING:
    import pyarrow as pa

    from aloll_cli.arrays import BoolArray, IntArray


COLUMNS = (
    "id", "group", "prompt", "turns", "prompt_ids", "prompt_cut", "response", "response_ids", "response_cut", "truncated",
    "templated", "turns_cut", "system_cut", "opening", "closing", "apart", "typed", "stored", "noise",
)  # fmt: skip


def prompt_codes(directory: Path) -> IntArray:
    """(N,) index of each example's unique prompt, in order of appearance; no other column is read."""
    return numbered(read_blocks(directory, ["group"]).column("group"))


@dataclass(frozen=True)
class ExampleTable:
    """The examples of one split, in memory as Arrow columns."""

    directory: Path
    columns: tuple[str, ...] = COLUMNS  # generated responses have others

    @cached_property
    def table(self) -> pa.Table:
        return read_blocks(self.directory, self.columns)

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @cached_property
    def ids(self) -> list[str]:
        names: list[str] = self.table.column("id").to_pylist()
        return names

    @cached_property
    def groups(self) -> tuple[IntArray, IntArray]:
        """(N,) index of each row's unique prompt, and (G,) the first row of each unique prompt, in order of appearance."""
        import numpy as np

        codes = numbered(self.table.column("group"))
        return codes, np.unique(codes, return_index=True)[1]

    @cached_property
    def prompt_names(self) -> list[str]:
        """(G,) the id of each unique prompt, in order of appearance."""
        names: list[str] = self.table.column("group").take(self.groups[1]).to_pylist()
        return names

    @cached_property
    def noise(self) -> BoolArray:
        """(N,) whether the response was replaced by one to another prompt (task.noise)."""
        noise: BoolArray = self.table.column("noise").to_numpy()
        return noise

    def prompt_ids(self, row: int) -> IntArray:
        """Token ids of a row's prompt."""
        return self._tokens("prompt_ids", row)

    def response_ids(self, row: int) -> IntArray:
        """Token ids of a row's response."""
        return self._tokens("response_ids", row)

    def prompt_lengths(self) -> IntArray:
        """(N,) number of tokens of each prompt."""
        return self._lengths("prompt_ids")

    def response_lengths(self) -> IntArray:
        """(N,) number of tokens of each response."""
        return self._lengths("response_ids")

    @cached_property
    def _arrays(self) -> dict[str, tuple[IntArray, IntArray]]:
        arrays = {}
        for name in {"prompt_ids", "response_ids"} & set(self.table.column_names):
            column = self.table.column(name).chunk(0)
            arrays[name] = (column.values.to_numpy(), column.offsets.to_numpy())
        return arrays

    def _lengths(self, name: str) -> IntArray:
        import numpy as np

        return np.asarray(np.diff(self._arrays[name][1]), dtype=np.int64)

    def _tokens(self, name: str, row: int) -> IntArray:
        values, offsets = self._arrays[name]
        return values[offsets[row] : offsets[row + 1]]
