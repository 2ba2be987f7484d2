"""The length of a response."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from aloll_cli.rewards.base import Reward, Row, Scorer
from aloll_cli.schema import COUNT

if TYPE_CHECKING:
    from aloll_cli.arrays import FloatArray


@dataclass(kw_only=True)
class Length(Reward):
    """The number of words in the response, split at white space."""

    most: int | None = field(metadata=COUNT)  # longer responses count as this many words; null: no limit

    @property
    def range(self) -> tuple[float, float]:
        return 0.0, float("inf") if self.most is None else float(self.most)

    def scorer(self, state: Path | None) -> Scorer:
        return _LengthScorer(self.range[1])


class _LengthScorer(Scorer):
    def __init__(self, most: float) -> None:
        self._most = most

    def score(self, rows: Sequence[Row]) -> FloatArray:
        import numpy as np

        return np.array([min(len(row.response.split()), self._most) for row in rows], dtype=np.float64)
