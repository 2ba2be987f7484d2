"""Whether the score of a row depends on the row alone: the first rows are scored again, in another order and by themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from aloll_cli.rewards.base import Row

if TYPE_CHECKING:
    from aloll_cli.arrays import FloatArray

    Score = Callable[[Sequence[Row]], FloatArray]

SCORED_AGAIN = 8  # rows; a table's first block has 256
ROUNDING = 1e-5  # of the largest score: networks in 32 bits differ by 1e-6 between batches
NOISE = 1e-2  # of the largest score: networks in 16 bits differ by 1e-3


class Difference(NamedTuple):
    """The largest difference between two scores of one row.

    Attributes:
        size: as a share of the largest score.
        told: the figures, as a sentence.
    """

    size: float
    told: str


def difference(score: Score, rows: Sequence[Row], scores: FloatArray) -> Difference | None:
    """How the scores of some rows differ if they are computed again; None if they do not beyond rounding.

    Args:
        score: N rows → (N,) scores.
        rows: (N,) at least one.
        scores: (N,) their scores, computed together with others.
    """
    rows, scores = rows[:SCORED_AGAIN], scores[:SCORED_AGAIN]
    # alone, scores that are relative to others are all the same
    alone = np.unique(np.argsort(scores, kind="stable")[[0, len(rows) // 2, -1]])
    places = np.concatenate([np.arange(len(rows)), alone])
    found = np.concatenate([score(rows[::-1])[::-1], *(score([rows[i]]) for i in alone)])
    gaps = np.nan_to_num(np.abs(found - scores[places]), nan=np.inf)
    largest = np.nanmax(np.abs([*scores, *found]))
    if not gaps.max() > ROUNDING * largest:
        return None
    worst = int(gaps.argmax())
    how = "in another order" if worst < len(rows) else "alone"
    told = f"row {rows[places[worst]].id} has the score {scores[places[worst]]:.6g}, and {found[worst]:.6g} if scored again {how}"
    return Difference(float(gaps.max() / largest), told)
