"""Batches of rows of different lengths, with little padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aloll_cli.arrays import IntArray


def longest_first(lengths: Sequence[int] | IntArray) -> IntArray:
    """Indices of rows by decreasing length, ties in order: if a batch does not fit into memory, the first one fails."""
    import numpy as np

    return np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable")


def by_tokens(lengths: Sequence[int] | IntArray, budget: int) -> list[IntArray]:
    """Rows sorted by length and cut into batches of at most ``budget`` tokens with their padding.

    Args:
        lengths: (N,) tokens of each row.
        budget: tokens per batch; a longer row becomes a batch of its own.

    Returns:
        Indices of the rows of each batch, longest first. Each of the N rows occurs once.
    """
    order, batches, start = longest_first(lengths), [], 0
    while start < len(order):
        count = max(1, budget // max(1, lengths[order[start]]))  # its first row is its longest
        batches.append(order[start : start + count])
        start += count
    return batches
