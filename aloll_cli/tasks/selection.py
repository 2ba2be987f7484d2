"""Which of the raw responses become examples, and the noise that may be put among them: pure functions of tables."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from aloll_cli.errors import UserError
from aloll_cli.tasks.base import Responses

if TYPE_CHECKING:
    import pyarrow as pa

    from aloll_cli.arrays import BoolArray, IntArray


def of_subsets(raw: pa.Table, subsets: list[str]) -> BoolArray:
    """(N,) whether a response is of one of the named parts of the data.

    Raises:
        UserError: none is.
    """
    import numpy as np

    found = raw.column("subset").to_pylist()
    kept = np.array([subset in subsets for subset in found], dtype=bool)
    if not kept.any():
        there = ", ".join(sorted({subset for subset in found if subset is not None})[:12])
        raise UserError(f"no response is of task.subsets={subsets}.", f"There are: {there}." if there else "task.subsets=null")
    return kept


def within(raw: pa.Table, lo: float | None, hi: float | None) -> BoolArray:
    """(N,) whether the stored reward of a response lies in [lo, hi], null for no bound; not where none is stored.

    Raises:
        UserError: none does.
    """
    import numpy as np

    stored = raw.column("stored").to_numpy()  # NaN where none is stored, and that is in no range
    kept = (stored >= (-np.inf if lo is None else lo)) & (stored <= (np.inf if hi is None else hi))
    if not kept.any():
        options = [f"task.{name}_reward={bound:g}" for name, bound in (("min", lo), ("max", hi)) if bound is not None]
        known = stored[~np.isnan(stored)]
        hint = f"They lie in [{known.min():g}, {known.max():g}]." if len(known) else "The data stores none: set it to null."
        raise UserError(f"no training response has a stored reward that {' and '.join(options)} would keep.", hint)
    return np.asarray(kept)


def chosen_rows(raw: pa.Table, responses: Responses) -> IntArray:
    """Indices of the responses to each prompt that the task learns from, in order.

    Raises:
        UserError: a choice by stored reward where none is stored.
    """
    import numpy as np

    if responses is Responses.all:
        return np.arange(raw.num_rows)
    if responses is Responses.first:
        return np.flatnonzero(raw.column("position").to_numpy() == 0)
    if raw.column("stored").null_count:
        raise UserError(f"task.responses={responses.name} compares stored rewards, and the data has none.", "task.responses=all")
    worst_first = raw.column("stored").to_numpy() * (1 if responses is Responses.best else -1)
    groups = numbered(raw.column("group"))
    order = np.lexsort((np.arange(raw.num_rows), -worst_first, groups))  # by prompt, the best first, the first of equals first
    return np.sort(order[np.unique(groups[order], return_index=True)[1]])


def numbered(column: pa.ChunkedArray) -> IntArray:
    """(N,) a number for each distinct text, 0 for the first to appear."""
    import numpy as np

    return np.asarray(column.combine_chunks().dictionary_encode().indices, dtype=np.int64)


def noise_sources(ids: list[str], groups: IntArray, share: float, seed: int) -> IntArray:
    """(N,) the row whose response each row gets: its own, or for a share of the rows that of a row with another prompt.

    A row's random numbers come from (seed, its id): a larger share replaces the same rows and more.

    Args:
        ids: N names of rows.
        groups: (N,) which prompt each answers.
        share: in [0, 1), of the rows that are replaced, rounded to a whole row.
        seed: of the choice.

    Raises:
        UserError: there is one prompt only.
    """
    import numpy as np

    sources = np.arange(len(ids))
    if not share:
        return sources
    digests = b"".join(hashlib.blake2b(f"{seed} {name}".encode(), digest_size=16).digest() for name in ids)
    draws = np.frombuffer(digests, dtype=np.uint64).reshape(-1, 2)
    noisy = np.argsort(draws[:, 0], kind="stable")[: round(share * len(ids))]
    by_group = np.argsort(groups, kind="stable")
    first = np.searchsorted(groups[by_group], groups[noisy], side="left")
    own = np.searchsorted(groups[by_group], groups[noisy], side="right") - first
    others = len(ids) - own
    if not others.all():
        raise UserError("task.noise takes responses to other prompts, and there is one prompt only.", "task.noise=0")
    drawn = (draws[noisy, 1] % others.astype(np.uint64)).astype(np.int64)  # among the rows of other prompts
    sources[noisy] = by_group[np.where(drawn < first, drawn, drawn + own)]
    return sources
