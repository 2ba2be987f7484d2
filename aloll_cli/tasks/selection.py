"""Which raw responses become examples, and which are replaced as noise: pure functions of tables."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

from aloll_cli.errors import UserError
from aloll_cli.tasks.options import Responses

if TYPE_CHECKING:
    import pyarrow as pa

    from aloll_cli.arrays import BoolArray, IntArray
    from aloll_cli.keys import Keys


def of_subsets(raw: pa.Table, subsets: list[str]) -> BoolArray:
    """(N,) whether a response belongs to one of the named subsets.

    Raises:
        UserError: no response does.
    """
    import numpy as np

    parts = raw.column("subset").chunks
    kept = np.concatenate([np.array([subset in subsets for subset in part.to_pylist()], dtype=bool) for part in parts])
    if not kept.any():
        there = ", ".join(sorted({subset for part in parts for subset in part.to_pylist() if subset is not None})[:12])
        raise UserError(
            f"no response belongs to task.subsets={subsets}.", f"The data has: {there}." if there else "task.subsets=null"
        )
    return kept


def rated(raw: pa.Table, split: str) -> BoolArray:
    """(N,) whether a response has a stored reward.

    Raises:
        UserError: no response does.
    """
    import pyarrow.compute as pc

    kept = pc.is_valid(raw.column("stored")).to_numpy()
    if raw.num_rows and not kept.any():
        what = f"task.unrated=drop leaves no response of the {split} split: none has a stored reward."
        raise UserError(what, "task.unrated=keep")
    return cast("BoolArray", kept)


def within(raw: pa.Table, lo: float | None, hi: float | None) -> BoolArray:
    """(N,) whether the stored reward of a response lies in [lo, hi]; None: no bound. False where no reward is stored.

    Raises:
        UserError: no response is kept.
    """
    import numpy as np

    stored = raw.column("stored").to_numpy()  # NaN where none is stored, which no range contains
    kept = (stored >= (-np.inf if lo is None else lo)) & (stored <= (np.inf if hi is None else hi))
    if not kept.any():
        options = [f"task.{name}_reward={bound:g}" for name, bound in (("min", lo), ("max", hi)) if bound is not None]
        known = stored[~np.isnan(stored)]
        hint = (
            f"Stored rewards lie in [{known.min():g}, {known.max():g}]."
            if len(known)
            else "No rewards are stored: set it to null."
        )
        raise UserError(f"{' and '.join(options)} leaves no training response.", hint)
    return np.asarray(kept)


def chosen_rows(raw: pa.Table, responses: Responses) -> IntArray:
    """Indices of the responses that the task uses, in order.

    Args:
        raw: columns group, the key of the prompt as a number, position and stored; the table may lack those that the choice
            does not read.
        responses: the choice.

    Raises:
        UserError: a choice by stored reward, and a response has none.
    """
    import numpy as np

    if responses is Responses.all:
        return np.arange(raw.num_rows)
    if responses is Responses.first:
        return np.flatnonzero(raw.column("position").to_numpy() == 0)
    if raw.column("stored").null_count:
        raise UserError(
            f"task.responses={responses.name} compares stored rewards, but some responses have none.",
            "task.responses=all, or task.unrated=drop, which leaves these out",
        )
    worst_first = raw.column("stored").to_numpy() * (1 if responses is Responses.best else -1)
    groups = raw.column("group").to_numpy()
    order = np.lexsort(
        (np.arange(raw.num_rows), -worst_first, groups)
    )  # by prompt, then best first; ties in the order of the data
    return np.sort(order[np.unique(groups[order], return_index=True)[1]])


def limited(groups: Keys, most: int) -> IntArray:
    """Indices of the responses to as many prompts as have ``most`` responses in all, in order; to one prompt at least.

    Which prompts these are is decided by a hash of each, so that the order of the data does not matter.

    Args:
        groups: (N,) keys of the prompts.
        most: responses.
    """
    import numpy as np

    from aloll_cli.keys import name_of_key, numbered

    if not len(groups):
        return np.arange(0)
    group, first = numbered(groups)
    hashes = b"".join(hashlib.sha256(f"limit {name_of_key(key)}".encode()).digest()[:8] for key in groups[first].tolist())
    order = np.argsort(np.frombuffer(hashes, dtype=">u8"), kind="stable")
    fits = np.cumsum(np.bincount(group)[order]) <= most
    fits[0] = True
    chosen = np.zeros(len(first), dtype=bool)
    chosen[order[fits]] = True
    return np.flatnonzero(chosen[group])


def noise_sources(ids: Iterable[str], groups: IntArray, share: float, seed: int) -> IntArray:
    """(N,) the row from which each row takes its response: itself or, for a share of the rows, a row with another prompt.

    A row's random numbers depend on (seed, id) only: a larger share replaces the same rows and more.

    Args:
        ids: N names of rows.
        groups: (N,) the number of each row's prompt.
        share: share of the rows to replace, in [0, 1), rounded to whole rows.
        seed: random seed of the choice.

    Raises:
        UserError: all rows have the same prompt.
    """
    import numpy as np

    sources = np.arange(len(groups))
    if not share:
        return sources
    digests = bytearray()
    for name in ids:
        digests += hashlib.blake2b(f"{seed} {name}".encode(), digest_size=16).digest()
    draws = np.frombuffer(digests, dtype=np.uint64).reshape(-1, 2)
    noisy = np.argsort(draws[:, 0], kind="stable")[: round(share * len(groups))]
    by_group = np.argsort(groups, kind="stable")
    first = np.searchsorted(groups[by_group], groups[noisy], side="left")
    own = np.searchsorted(groups[by_group], groups[noisy], side="right") - first
    others = len(groups) - own
    if not others.all():
        raise UserError("task.noise needs responses to other prompts, but the data has only one prompt.", "task.noise=0")
    drawn = (draws[noisy, 1] % others.astype(np.uint64)).astype(np.int64)  # index among the rows with other prompts
    sources[noisy] = by_group[np.where(drawn < first, drawn, drawn + own)]
    return sources
