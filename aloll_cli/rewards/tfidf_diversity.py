"""How rare the words of a response are: its mean TF-IDF weight, as in the paper's dialogue tasks (arXiv 2305.14718)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from aloll_cli.errors import UserError
from aloll_cli.foreign import anything, checked_json, damaged, tensors_of
from aloll_cli.rewards.base import Reward, Row, Scorer
from aloll_cli.rewards.tfidf import restored
from aloll_cli.schema import COUNT

if TYPE_CHECKING:
    from sklearn.feature_extraction.text import TfidfVectorizer

    from aloll_cli.arrays import FloatArray

ENOUGH, FULL = 5, 10  # a response of fewer distinct words than ENOUGH is scaled by their number over FULL


@dataclass(kw_only=True)
class TfidfDiversity(Reward):
    """The mean non-zero TF-IDF weight of the response, × distinct words / 10 where it has fewer than 5 of them.

    Weights are scikit-learn's, fitted on the responses of the raw train split: words of two letters or more, each response's
    vector scaled to Euclidean length 1. Words that occur in no training response have weight 0.
    """

    min_rows: int = field(metadata=COUNT)

    @property
    def range(self) -> tuple[float, float]:
        return 0.0, 1.0

    @property
    def is_fitted(self) -> bool:
        return True

    def fit(self, train: Sequence[Row], validation: Sequence[Row], directory: Path) -> dict[str, float]:
        """Count the training responses that contain each word; there are no held-out metrics."""
        import numpy as np
        from safetensors.numpy import save_file

        try:
            vectorizer = self.vectorizer().fit([row.response for row in train])
        except ValueError:  # from scikit-learn: empty vocabulary
            hint = (
                "reward.min_rows=1"
                if self.min_rows > 1
                else "Words have two letters or more: choose another reward: reward=length"
            )
            raise UserError(
                f"no word occurs in reward.min_rows={self.min_rows} of the {len(train)} training responses.", hint
            ) from None
        save_file({"idf": np.asarray(vectorizer.idf_)}, directory / "model.safetensors")
        vocabulary = {term: int(index) for term, index in vectorizer.vocabulary_.items()}
        (directory / "vocabulary.json").write_text(json.dumps(vocabulary, sort_keys=True))
        return {}

    @property
    def reads_edges(self) -> bool:
        return False

    def scorer(self, state: Path | None) -> Scorer:
        assert state is not None
        return _TfidfDiversityScorer(self, state)

    def vectorizer(self) -> TfidfVectorizer:
        """A new vectorizer, not fitted yet."""
        from sklearn.feature_extraction.text import TfidfVectorizer

        return TfidfVectorizer(min_df=self.min_rows)


class _TfidfDiversityScorer(Scorer):
    def __init__(self, reward: TfidfDiversity, state: Path) -> None:
        idf = tensors_of(state / "model.safetensors", "idf")["idf"]
        vocabulary = checked_json(state / "vocabulary.json", anything)
        with damaged(state / "vocabulary.json"):
            self._vectorizer = restored(reward.vectorizer(), vocabulary, idf)
        self._words = self._vectorizer.build_analyzer()

    def score(self, rows: Sequence[Row]) -> FloatArray:
        import numpy as np

        weights = self._vectorizer.transform([row.response for row in rows])
        counts = np.diff(weights.indptr)
        means = np.asarray(weights.sum(axis=1))[:, 0] / np.maximum(counts, 1)
        distinct = np.array([len(set(self._words(row.response))) for row in rows])
        return np.asarray(np.minimum(means * np.where(distinct < ENOUGH, distinct / FULL, 1), 1))
