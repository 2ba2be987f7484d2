"""The length of a response."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from aloll_cli.metrics.words import is_spaced
from aloll_cli.rewards.base import Reward, Row, Scorer
from aloll_cli.schema import COUNT

if TYPE_CHECKING:
    from aloll_cli.arrays import FloatArray


class Unit(Enum):
    """What the length of a response is counted in."""

    words = "separated by white space"
    characters = "without white space; for scripts without spaces between words, such as Chinese, Japanese and Thai"


@dataclass(kw_only=True)
class Length(Reward):
    """The number of words or characters in the response."""

    unit: Unit
    most: int | None = field(metadata=COUNT)  # longer responses count as this long; null: no limit

    @property
    def range(self) -> tuple[float, float]:
        return 0.0, float("inf") if self.most is None else float(self.most)

    @property
    def reads_edges(self) -> bool:
        return False

    def knows(self, response: str) -> bool:
        """False where words are counted and the script has no spaces between words."""
        return self.unit is Unit.characters or is_spaced(response)

    def scorer(self, state: Path | None) -> Scorer:
        return _LengthScorer(self.unit, self.range[1])


class _LengthScorer(Scorer):
    def __init__(self, unit: Unit, most: float) -> None:
        self._unit, self._most = unit, most

    def score(self, rows: Sequence[Row]) -> FloatArray:
        import numpy as np

        return np.array([min(self._length(row.response), self._most) for row in rows], dtype=np.float64)

    def _length(self, response: str) -> int:
        words = response.split()
        return len(words) if self._unit is Unit.words else sum(map(len, words))
