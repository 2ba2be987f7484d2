"""The reward stored in the data, such as logged ratings. It cannot score new text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from aloll_cli.errors import NoStoredReward, UserError
from aloll_cli.rewards.base import Reward, Row, Scorer
from aloll_cli.schema import numbers

if TYPE_CHECKING:
    from aloll_cli.arrays import FloatArray


class Transform(Enum):
    """How a stored number becomes a reward."""

    none = "unchanged"
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

    @property
    def range(self) -> tuple[float, float]:
        return (0.0, 1.0) if self.transform is Transform.sigmoid else (self.lo, self.hi)

    @property
    def scores_text(self) -> bool:
        return False

    def scorer(self, state: Path | None) -> Scorer:
        return _ColumnScorer(self)


class _ColumnScorer(Scorer):
    def __init__(self, reward: Column) -> None:
        self._reward = reward

    def score(self, rows: Sequence[Row]) -> FloatArray:
        import numpy as np
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
            "Choose a reward that scores text, such as reward=vader; or store one in every row, in the column named by "
            "task.columns.reward (task=local).",
        )
    return row.stored
