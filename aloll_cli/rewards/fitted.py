"""A reward model fitted on the stored rewards of the data: a linear model on TF-IDF, by scikit-learn.

It generalizes logged ratings to new text without a download. It is a weak proxy: its accuracy on held-out rows is printed
and stored. :meth:`Fitted.held_out` gives a second model, of other features and fitted on other prompts, for evaluation.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from aloll_cli.errors import UserError
from aloll_cli.foreign import Unreadable, checked_json, damaged, dict_of, integer, tensors_of
from aloll_cli.rewards.base import Reward, Row, Scorer
from aloll_cli.rewards.column import stored_reward
from aloll_cli.rewards.ratings import Prompts, check_labels, check_variation, with_reward
from aloll_cli.rewards.skill import logits_of, skill, skill_with_labels
from aloll_cli.rewards.tfidf import restored
from aloll_cli.rewards.variation import saturation_warning
from aloll_cli.schema import COUNT, numbers

if TYPE_CHECKING:
    from sklearn.feature_extraction.text import TfidfVectorizer

    from aloll_cli.arrays import FloatArray
    from aloll_cli.rewards.variation import Stored

FOLDS = 5
MIN_ROWS = 3  # texts that an n-gram must occur in
BLOCKS = ("prompt", "response")


class Features(Enum):
    """The n-grams that TF-IDF counts: scikit-learn's analyzer and n-gram range."""

    words = ("word", (1, 2))
    characters = ("char_wb", (2, 5))


class Target(Enum):
    """The kind of the stored rewards, and the model that is fitted."""

    regression = "scores of any size, such as logits: ridge regression, then a sigmoid of the prediction"
    ranks = "scores with outliers, such as votes: the same on the normal scores of their ranks"
    classification = "labels 0 and 1: logistic regression, then the probability of 1"


@dataclass(kw_only=True)
class Fitted(Reward):
    """Sigmoid of a linear model of the stored score or label, on separate TF-IDF features of prompt and response."""

    version: ClassVar[int] = 2  # halves of the prompts, also where one file was split by their hash

    target: Target
    features: Features
    prompts: Prompts
    alpha: float = field(metadata=numbers("(0, inf)", 1.0))  # strength of the penalty on squared coefficients
    max_features: int = field(metadata=COUNT)  # of the prompt and of the response, each

    @property
    def label(self) -> str:
        return "fitted" if self.features is Features.words else f"fitted_{self.features.name}"

    @property
    def range(self) -> tuple[float, float]:
        return 0.0, 1.0

    @property
    def is_fitted(self) -> bool:
        return True

    def held_out(self) -> Reward | None:
        other_prompts = self.prompts.others
        other_features = Features.characters if self.features is Features.words else Features.words
        return replace(self, prompts=other_prompts, features=other_features) if other_prompts else None

    def check_stored(self, stored: Stored) -> str | None:
        if self.target is not Target.regression:
            return None
        warning = saturation_warning(stored, "reward.target=regression")
        return warning and f"{warning}. reward.target=ranks takes scores of any scale"

    def fit(self, train: Sequence[Row], validation: Sequence[Row], directory: Path) -> dict[str, float]:
        """Fit one model on all chosen prompts and one per fold without its prompts; returns metrics on the validation split.

        Responses without a stored reward are left out of both splits.
        """
        import numpy as np
        from safetensors.numpy import save_file
        from scipy.sparse import hstack

        rated, validation = with_reward(train, "train"), with_reward(validation, "validation")
        rows = self.prompts.of(rated)
        if len({row.group for row in rows}) < 2 * FOLDS:
            raise UserError(f"reward=fitted has too few rows to fit on: {len(rows)}.", "reward.prompts=all, or more data")
        targets = self._targets(rows)
        folds = np.array([_fold(row.group) for row in rows])
        if self.target is Target.classification:
            check_labels([*rows, *validation], "reward.target=classification", "reward.target=regression")
            if min(len(set(targets[folds != fold])) for fold in range(FOLDS)) < 2:
                raise UserError("reward.target=classification needs more rows of both labels, 0 and 1.", "reward.prompts=all")
        else:
            check_variation(targets, "reward=fitted")
        fitted = {block: self._fitted_to([getattr(row, block) for row in rows]) for block in BLOCKS}
        vectorizers = {block: vectorizer for block, vectorizer in fitted.items() if vectorizer is not None}
        if not vectorizers:
            what = f"reward=fitted: no {self.features.name} occur in {MIN_ROWS} of the {len(rows)} prompts, nor of the responses."
            raise UserError(what, "reward.features=characters, or choose another reward: reward=length")
        features = hstack([v.transform([getattr(row, b) for row in rows]) for b, v in vectorizers.items()]).tocsr()
        models = []
        for fold in range(FOLDS + 1):  # the last model is fitted on all folds
            chosen = folds != fold
            models.append(self._model().fit(features[chosen], targets[chosen]))
        state = {f"idf_{block}": np.asarray(v.idf_) for block, v in vectorizers.items()}
        state["coefficients"] = np.stack([np.ravel(model.coef_) for model in models])
        state["intercepts"] = np.array([float(np.squeeze(model.intercept_)) for model in models])
        state["fitted_groups"] = np.unique(np.array([int(row.group, 16) for row in rows], dtype=np.uint64))
        save_file(state, directory / "model.safetensors")
        vocabularies = {b: {term: int(index) for term, index in v.vocabulary_.items()} for b, v in vectorizers.items()}
        (directory / "vocabulary.json").write_text(json.dumps(vocabularies, sort_keys=True))
        scorer = self.scorer(directory)
        counts = {"rows": len(rows), "rows_without_reward": len(train) - len(rated)}
        predicted = scorer.score(validation)
        if self.target is Target.classification:
            return counts | skill_with_labels(predicted, validation)
        return counts | skill(logits_of(predicted), validation, self._targets(validation))

    @property
    def reads_edges(self) -> bool:
        return False

    def scorer(self, state: Path | None) -> Scorer:
        assert state is not None
        return _FittedScorer(self, state)

    def _targets(self, rows: Sequence[Row]) -> FloatArray:
        import numpy as np

        stored = np.array([stored_reward(row) for row in rows])
        return normal_scores(stored) if self.target is Target.ranks else stored

    def _model(self) -> Any:
        from sklearn.linear_model import LogisticRegression, Ridge

        if self.target is Target.classification:
            return LogisticRegression(C=1 / self.alpha, max_iter=1000)
        return Ridge(alpha=self.alpha, solver="sparse_cg", tol=1e-6)

    def _fitted_to(self, texts: Sequence[str]) -> TfidfVectorizer | None:
        """A vectorizer that knows the features of N texts; None if there are none, as of emoji, which are no words."""
        try:
            return self._vectorizer().fit(texts)
        except ValueError:  # from scikit-learn: an empty vocabulary
            return None

    def _vectorizer(self) -> TfidfVectorizer:
        from sklearn.feature_extraction.text import TfidfVectorizer

        analyzer, ngrams = self.features.value
        return TfidfVectorizer(
            analyzer=analyzer, ngram_range=ngrams, min_df=MIN_ROWS, sublinear_tf=True, max_features=self.max_features
        )


def _vocabularies(value: Any, where: str) -> None:
    dict_of(dict_of(integer))(value, where)
    if not value or not value.keys() <= set(BLOCKS):
        raise Unreadable(f"has features of {', '.join(value) or 'nothing'}")


class _FittedScorer(Scorer):
    """Cross-fitted: a prompt used in fitting is scored by the model without its fold, any other by the full model."""

    def __init__(self, reward: Fitted, state: Path) -> None:
        vocabularies = checked_json(state / "vocabulary.json", _vocabularies)
        idf = {block: f"idf_{block}" for block in vocabularies}
        file = state / "model.safetensors"
        tensors = tensors_of(file, "coefficients", "intercepts", "fitted_groups", *idf.values())
        self._coefficients, self._intercepts = tensors["coefficients"], tensors["intercepts"]
        self._groups = set(tensors["fitted_groups"].tolist())
        with damaged(state / "vocabulary.json"):
            self._vectorizers = {
                block: restored(reward._vectorizer(), vocabulary, tensors[idf[block]])
                for block, vocabulary in vocabularies.items()
            }
        shape = (FOLDS + 1, sum(map(len, vocabularies.values())))
        if self._coefficients.shape != shape or self._intercepts.shape != shape[:1]:
            with damaged(file):
                raise Unreadable(f"has coefficients of shape {self._coefficients.shape} instead of {shape}")

    def score(self, rows: Sequence[Row]) -> FloatArray:
        import numpy as np
        from scipy.sparse import hstack
        from scipy.special import expit

        blocks = [v.transform([getattr(row, block) for row in rows]) for block, v in self._vectorizers.items()]
        features = hstack(blocks).tocsr()
        models = np.array([_fold(row.group) if int(row.group, 16) in self._groups else FOLDS for row in rows])
        predictions = (features @ self._coefficients.T + self._intercepts)[np.arange(len(rows)), models]
        return np.asarray(expit(predictions))


def normal_scores(values: FloatArray) -> FloatArray:
    """(N,) the standard normal quantile of each value's rank, Φ⁻¹((rank − ½) / N); ties get their mean rank."""
    import numpy as np
    from scipy.special import ndtri
    from scipy.stats import rankdata

    return np.asarray(ndtri((rankdata(values) - 0.5) / len(values)))


def _fold(group: str) -> int:
    """The fold of a prompt, from digits of its hash that do not decide on its split."""
    return int(group[8:], 16) % FOLDS
