"""Encoded examples of one split, of which memory holds numbers alone: texts and tokens are read where they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from aloll_cli.foreign import Unreadable, damaged
from aloll_cli.store.tables import open_blocks, read_numbers
from aloll_cli.text.token_file import StoredTokens

if TYPE_CHECKING:
    import pyarrow as pa

    from aloll_cli.arrays import BoolArray, IntArray
    from aloll_cli.keys import Keys
    from aloll_cli.store.rows import Rows


COLUMNS = (
    "id", "group", "prompt", "turns", "prompt_ids", "prompt_cut", "response", "response_ids", "response_cut", "truncated",
    "templated", "turns_cut", "system_cut", "opening", "closing", "apart", "typed", "foreign", "stored", "noise",
)  # fmt: skip


def prompt_keys(directory: Path) -> Keys:
    """(N,) the key of each example's prompt. Raises UserError where the table is damaged."""
    import numpy as np

    return np.concatenate([keys_of(batch, directory) for batch in open_blocks(directory, ["group"]).batches()])


def keys_of(table: pa.Table, where: Path) -> Keys:
    """(N,) the keys of the prompts in a table's column group.

    Args:
        table: the table.
        where: it was read from.

    Raises:
        UserError: the column holds something else.
    """
    from aloll_cli.keys import of_names

    with damaged(where):
        try:
            return of_names(table.column("group").to_pylist())
        except (ValueError, TypeError):
            raise Unreadable("has a group that is no key of a prompt") from None


def prompt_codes(directory: Path) -> IntArray:
    """(N,) number of each example's unique prompt, in order of appearance; no other column is read."""
    from aloll_cli.keys import numbered

    return numbered(prompt_keys(directory))[0]


@dataclass(frozen=True)
class ExampleTable(StoredTokens):
    """The examples of one split, and the token ids of all of them."""

    directory: Path
    columns: tuple[str, ...] = COLUMNS  # generated responses have others

    def __len__(self) -> int:
        return self._opened(self.columns[:1]).num_rows

    def at(self, rows: Sequence[int] | IntArray, columns: Sequence[str] | None = None) -> pa.Table:
        """Some rows, in the order of their numbers in ``rows``; all columns, or those named."""
        import numpy as np

        distinct, places = np.unique(np.asarray(rows, dtype=np.int64), return_inverse=True)
        opened = self._opened(self.columns if columns is None else tuple(columns))
        return opened.take(distinct).take(places) if len(places) else opened.slice(0, 0)

    def ids(self, rows: Sequence[int] | IntArray) -> list[str]:
        """The ids of some rows."""
        names: list[str] = self.at(rows, ["id"]).column("id").to_pylist()
        return names

    @cached_property
    def groups(self) -> tuple[IntArray, IntArray]:
        """(N,) number of each row's unique prompt, and (G,) the first row of each unique prompt, in order of appearance."""
        from aloll_cli.keys import numbered

        return numbered(prompt_keys(self.directory))

    @cached_property
    def prompt_names(self) -> list[str]:
        """(G,) the id of each unique prompt, in order of appearance."""
        from aloll_cli.keys import name_of_key

        return [name_of_key(key) for key in prompt_keys(self.directory)[self.groups[1]].tolist()]

    @cached_property
    def noise(self) -> BoolArray:
        """(N,) whether the response was replaced by one to another prompt (task.noise)."""
        noise: BoolArray = read_numbers(self.directory, "noise")
        return noise

    def tokens(self, rows: IntArray) -> StoredTokens:
        """The token ids of some rows, ascending, alone."""
        return StoredTokens(self.directory, rows)

    def _opened(self, columns: tuple[str, ...]) -> Rows:
        if columns not in self._open:
            self._open[columns] = open_blocks(self.directory, columns)
        return self._open[columns]

    @cached_property
    def _open(self) -> dict[tuple[str, ...], Rows]:
        return {}
