"""Batches of rows of unlike length, with little padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aloll_cli.arrays import IntArray


def by_tokens(lengths: Sequence[int], budget: int) -> list[IntArray]:
    """Rows sorted by length and cut into batches of at most ``budget`` tokens with their padding.

    Args:
        lengths: (N,) tokens of each row.
        budget: of a batch; a row longer than that is a batch of its own.

    Returns:
        Indices of each batch's rows, the longest first: what does not fit into memory fails at once. All N occur once.
    """
    import numpy as np

    order = np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable")
    batches, start = [], 0
    while start < len(order):
        count = max(1, budget // max(1, lengths[order[start]]))  # its first row is its longest
        batches.append(order[start : start + count])
        start += count
    return batches
