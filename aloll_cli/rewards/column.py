"""The reward stored in the data, such as logged ratings. It cannot score new text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from aloll_cli.errors import NoStoredReward, UserError
from aloll_cli.rewards.base import Reward, Row, Scorer
from aloll_cli.rewards.variation import SATURATED, percentiles, saturation, saturation_warning
from aloll_cli.schema import numbers

if TYPE_CHECKING:
    from aloll_cli.arrays import FloatArray
    from aloll_cli.rewards.variation import Stored


class Transform(Enum):
    """How a stored number becomes a reward."""

    none = "unchanged; it must lie in [lo, hi]"
    sigmoid = "sigmoid of the score, for raw logits"


@dataclass(kw_only=True)
class Column(Reward):
    """The stored reward of each response: logged ratings, or the scores of a reward model."""

    transform: Transform
    lo: float = field(
        metadata=numbers("[-inf, inf]", 0.0)
    )  # range of the stored rewards under transform=none; -.inf and .inf if unbounded
    hi: float = field(metadata=numbers("[-inf, inf]", 1.0))

    def __post_init__(self) -> None:
        if not self.lo < self.hi:
            raise UserError(f"reward.lo={self.lo} must be less than reward.hi={self.hi}.", "reward.lo=0 reward.hi=1")
        if self.transform is Transform.sigmoid and (self.lo, self.hi) != (0.0, 1.0):
            raise UserError(
                f"reward.lo={self.lo:g} and reward.hi={self.hi:g} are the ends of rewards that are taken as stored, but "
                "reward.transform=sigmoid maps them to (0, 1).",
                "reward.transform=none, or leave out reward.lo and reward.hi",
            )

    @property
    def range(self) -> tuple[float, float]:
        return (0.0, 1.0) if self.transform is Transform.sigmoid else (self.lo, self.hi)

    @property
    def scores_text(self) -> bool:
        return False

    def check_stored(self, stored: Stored) -> str | None:
        if self.transform is Transform.sigmoid:
            return saturation_warning(stored, "reward.transform=sigmoid")
        every = np.concatenate(list(stored.values()))
        outside = int(((every < self.lo) | (every > self.hi)).sum())
        if outside:
            raise UserError(
                f"reward=column takes rewards as they are stored, in [{self.lo:g}, {self.hi:g}], but {outside:,} of "
                f"{len(every):,} lie outside (5th/50th/95th percentile: {_by_split(stored)}).",
                _proposals(every),
            )
        return None

    @property
    def reads_edges(self) -> bool:
        return False

    def scorer(self, state: Path | None) -> Scorer:
        return _ColumnScorer(self)


class _ColumnScorer(Scorer):
    def __init__(self, reward: Column) -> None:
        self._reward = reward

    def score(self, rows: Sequence[Row]) -> FloatArray:
        from scipy.special import expit

        stored = np.array([stored_reward(row) for row in rows], dtype=np.float64)
        if self._reward.transform is Transform.sigmoid:
            return np.asarray(expit(stored))
        lo, hi = self._reward.range
        for row, value in zip(rows, stored, strict=True):
            if not lo <= value <= hi:
                raise UserError(
                    f"example {row.id}: the stored reward {value} is outside [{lo}, {hi}].",
                    "Set the range of the stored rewards, such as reward.lo=1 reward.hi=5",
                )
        return stored


def stored_reward(row: Row) -> float:
    """The stored reward of a row. Raises UserError if it has none."""
    if row.stored is None:
        raise NoStoredReward(
            f"example {row.id} has no stored reward.",
            "task.unrated=drop leaves out responses without one; reward=vader and others score text instead. "
            "The column of rewards: task.columns.reward (task=local).",
        )
    return row.stored


def _by_split(stored: Stored) -> str:
    return ", ".join(f"{split} {percentiles(rewards)}" for split, rewards in stored.items() if len(rewards))


def _proposals(stored: FloatArray) -> str:
    """What to type for ratings and for logits, with what becomes of (N,) stored rewards."""
    from scipy.special import expit

    worse = ": it hardly tells them apart" if saturation(stored) >= SATURATED else ""
    return (
        f"If they are ratings, name the ends of their scale: reward.lo={stored.min():g} reward.hi={stored.max():g} "
        "(the lowest and the highest that are stored).\n"
        "If they are logits: reward.transform=sigmoid; their 5th/50th/95th percentile becomes "
        f"{percentiles(np.asarray(expit(stored)))}{worse}."
    )
