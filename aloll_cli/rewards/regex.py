"""Whether a pattern occurs in a response: a required format, or an unwanted phrase."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aloll_cli.errors import UserError
from aloll_cli.rewards.base import Reward, Row, Scorer

if TYPE_CHECKING:
    from aloll_cli.arrays import FloatArray


@dataclass(kw_only=True)
class Regex(Reward):
    """1 if a Python regular expression matches the response, else 0; the other way round with ``absent``."""

    pattern: str
    ignore_case: bool
    whole: bool
    absent: bool

    def __post_init__(self) -> None:
        try:
            self.compiled()
        except re.error as error:
            raise UserError(
                f"reward.pattern={self.pattern} is not a valid regular expression: {error}.", "reward.pattern='\"^Yes\\\\b\"'"
            ) from None

    @property
    def range(self) -> tuple[float, float]:
        return 0.0, 1.0

    def compiled(self) -> re.Pattern[str]:
        """The pattern; ^ and $ match at every line."""
        return re.compile(self.pattern, re.MULTILINE | (re.IGNORECASE if self.ignore_case else 0))

    def scorer(self, state: Path | None) -> Scorer:
        return _RegexScorer(self)


class _RegexScorer(Scorer):
    def __init__(self, reward: Regex) -> None:
        pattern = reward.compiled()
        self._finds = pattern.fullmatch if reward.whole else pattern.search
        self._absent = reward.absent

    def score(self, rows: Sequence[Row]) -> FloatArray:
        import numpy as np

        return np.array([(self._finds(row.response) is None) == self._absent for row in rows], dtype=np.float64)
