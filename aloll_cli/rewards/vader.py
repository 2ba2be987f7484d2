"""Rule-based sentiment (Hutto and Gilbert 2014): no model, no download."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from aloll_cli.rewards.base import Reward, Row, Scorer

if TYPE_CHECKING:
    from aloll_cli.arrays import FloatArray

LATIN = re.compile("[A-Za-z]")
WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")
FEWEST = 5  # words from which on an English text hardly ever has none of COMMON
# common English words that are rare in other languages; "in", "is", "was", "we" and the like are not
COMMON = {
    "the", "and", "you", "your", "it", "it's", "its", "that", "that's", "this", "these", "those", "with", "have", "not",
    "don't", "didn't", "isn't", "wasn't", "our", "their", "his", "they", "them", "she", "i'm", "i've", "would", "could",
    "should", "there", "there's", "from", "what", "which", "when", "who", "how", "why", "about", "because", "were", "very",
    "some", "out", "if", "then", "but", "us",
}  # fmt: skip


@dataclass(kw_only=True)
class Vader(Reward):
    """VADER's compound sentiment of the response, mapped from [-1, 1] to [0, 1]; English only."""

    language: ClassVar[str] = "English"

    @property
    def range(self) -> tuple[float, float]:
        return 0.0, 1.0

    def knows(self, response: str) -> bool:
        """False for letters of which none is Latin; emoji and punctuation are in VADER's rules."""
        return LATIN.search(response) is not None or not any(map(str.isalpha, response))

    @property
    def reads_edges(self) -> bool:
        return False

    def understands(self, response: str) -> bool | None:
        """Whether a text of at least FEWEST words has a common English one: VADER takes the German "die" for death."""
        words = WORD.findall(response.lower().replace("’", "'"))
        return not COMMON.isdisjoint(words) if len(words) >= FEWEST else None

    def scorer(self, state: Path | None) -> Scorer:
        return _VaderScorer()


class _VaderScorer(Scorer):
    def __init__(self) -> None:
        from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

        self._analyzer = SentimentIntensityAnalyzer()

    def score(self, rows: Sequence[Row]) -> FloatArray:
        import numpy as np

        compound = [self._analyzer.polarity_scores(row.response)["compound"] for row in rows]
        return (np.array(compound, dtype=np.float64) + 1) / 2
