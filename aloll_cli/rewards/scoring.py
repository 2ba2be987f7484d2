"""Checks the scores of any reward, and frees its memory. A reward itself only scores rows."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from aloll_cli.errors import UserError
from aloll_cli.rewards.base import Reward, Row, Scorer
from aloll_cli.rewards.variation import LARGEST
from aloll_cli.schema import name_of
from aloll_cli.tasks.base import shown
from aloll_cli.user_code import real_numbers

if TYPE_CHECKING:
    from aloll_cli.arrays import FloatArray

T = TypeVar("T")


def checked_scores(reward: Reward, scorer: Scorer, rows: Sequence[Row]) -> FloatArray:
    """(N,) rewards of N rows.

    Raises:
        UserError: a score is missing, no number, NaN, infinite, too large or outside the declared range; the message names the
            row.
    """
    where, returned = f"reward={name_of(reward)}", scorer.score(rows)
    try:
        scores = real_numbers(returned)
    except TypeError as error:
        what = f"{where} returned {shown(returned)} for {len(rows)} rows from {rows[0].id} on: {error}."
        raise UserError(what, "Return one number per row.") from None
    if scores.shape != (len(rows),):
        raise UserError(
            f"reward={name_of(reward)} returned scores of shape {scores.shape} for {len(rows)} rows from {rows[0].id} on.",
            "Return one number per row.",
        )
    check_scores(reward, scores, lambda i: rows[i].id)
    return scores


def check_scores(reward: Reward, scores: FloatArray, name: Callable[[int], str]) -> None:
    """Check (N,) rewards; ``name`` gives the id of a row.

    Raises:
        UserError: a score is NaN, infinite, too large for fp32, or outside the declared range; the message names the row.
    """
    lo, hi = reward.range
    is_valid = np.isfinite(scores) & (lo <= scores) & (scores <= hi) & (np.abs(scores) <= LARGEST)
    for i in np.flatnonzero(~is_valid)[:1]:
        what = f"reward={name_of(reward)} returned {scores[i]} for example {name(int(i))}"
        if not np.isfinite(scores[i]):
            raise UserError(f"{what}.", "Rewards must be finite: correct the reward, or leave the row out.")
        if lo <= scores[i] <= hi:
            raise UserError(
                f"{what}; the squares of rewards beyond ±{LARGEST:g} overflow in 32-bit numbers.",
                "Store or return rewards of a smaller scale, such as [0, 1].",
            )
        raise UserError(
            f"{what}, outside its range [{lo}, {hi}].",
            "Correct the reward or, if it has these options, its range: reward.lo, reward.hi",
        )


def using(load: Callable[[], Scorer], work: Callable[[Scorer], T]) -> T:
    """The result of ``work`` on a scorer, whose memory is freed before this returns."""
    try:
        return work(load())
    finally:
        gc.collect()
        if "torch" in sys.modules and sys.modules["torch"].cuda.is_available():
            sys.modules["torch"].cuda.empty_cache()
