"""Ridge regression of rewards on features of whole prompts, cross-fitted by prompt; shared by ``ridge`` and ``blend``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from aloll_cli.schema import COUNT
from aloll_cli.values.base import Estimate, Evidence, LoggedRewards
from aloll_cli.values.fitting import CrossFitted

if TYPE_CHECKING:
    from torch import Tensor

    from aloll_cli.arrays import FloatArray, IntArray

    Prediction = Callable[[Any], FloatArray]  # (P, D) features → (P,) predictions

PENALTIES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)  # of squared coefficients; rows of features have norm 1
CHUNK = 1024  # prompts that are read at a time
FITTED = "train"  # the split whose prompts are fitted on


class Features(Enum):
    """What a value is predicted from."""

    text = "TF-IDF of the whole prompt: words and pairs of words, or characters where the script has no spaces"
    states = "π_ref's last-layer states of the prompt as it was cut: their mean over the positions, and the last one"
    both = "both, each scaled to norm 1"


@dataclass(kw_only=True)
class RidgeValues(CrossFitted):
    """Ridge regression (Hoerl & Kennard 1970), its penalty chosen by the error on held-out prompts."""

    features: Features
    max_features: int = field(metadata=COUNT)  # of TF-IDF

    @property
    def fitted_on(self) -> str | None:
        return FITTED

    @property
    def reads_states(self) -> bool:
        return self.features is not Features.text

    @property
    def pools_states(self) -> bool:
        return True

    def fit(self, targets: FloatArray, counts: FloatArray, evidence: Evidence) -> Fitted:
        """Cross-fit on the training prompts and log the held-out MSE next to that of predicting the mean.

        Args:
            targets: (G,) mean reward of each unique training prompt's responses.
            counts: (G,) the number of these responses, by which prompts are weighted.
            evidence: the prompts, and the range of the reward.
        """
        everyone = np.arange(len(targets))
        prompts = Prompts(self, evidence, everyone)
        features = prompts.features(FITTED, everyone)
        folds = np.random.default_rng(self.seed).permutation(len(targets)) % self.folds
        fit = cross_fit(features, targets, counts, folds, evidence.range)
        explained = 1 - fit.error / fit.constant_error if fit.constant_error else 0.0
        with_penalty = f"with penalty {fit.penalty:g} " if fit.penalty is not None else ""
        evidence.say(
            f"  ridge on {features.shape[1]:,} features ({prompts.about}): held-out MSE {fit.error:.5f} {with_penalty}"
            f"(predicting the mean: {fit.constant_error:.5f}, so {explained:.1%} of the variance is explained; "
            f"{len(targets):,} prompts, {self.folds} folds)"
        )
        if fit.penalty is None:
            evidence.warn("the ridge predicts rewards no better than their mean does, so V(x) is their mean")
        return Fitted(fit.held_out, lambda split, chosen: fit.predict(prompts.features(split, chosen)), fit.error)


@dataclass(frozen=True)
class Fitted(Estimate):
    """Predictions of a ridge; for a prompt that it was fitted on, those of the fit without the prompt's fold.

    Attributes:
        held_out: (G,) predictions for the training prompts.
        elsewhere: (split, prompts) → predictions for prompts of another split, of the fit on all training prompts.
        error: MSE of ``held_out``.
    """

    held_out: FloatArray
    elsewhere: Callable[[str, IntArray], FloatArray]
    error: float

    def of(self, split: str, logged: LoggedRewards, rows: slice) -> FloatArray:
        if split == FITTED:
            return self.held_out[logged.groups[rows]]
        prompts, place = np.unique(logged.groups[rows], return_inverse=True)
        return self.elsewhere(split, prompts)[place]


class Prompts:
    """The features of prompts. What scales them (TF-IDF's weights, the states' deviations) comes from the training prompts."""

    def __init__(self, options: RidgeValues, evidence: Evidence, fitted: IntArray) -> None:
        """``fitted``: the indices of all training prompts."""
        from sklearn.feature_extraction.text import TfidfVectorizer

        from aloll_cli.metrics.words import by_script, letter_shares

        self._evidence, self._of = evidence, options.features
        told = []
        if self._of is not Features.states:
            texts = evidence.texts(FITTED, fitted)
            unit = by_script(letter_shares(texts[i : i + CHUNK] for i in range(0, len(texts), CHUNK))).unit
            pattern = r"(?u)\b\w+\b" if unit == "words" else None
            self._vectorizer = TfidfVectorizer(
                analyzer="word" if pattern else "char", token_pattern=pattern, ngram_range=(1, 2), min_df=2, sublinear_tf=True,
                max_features=options.max_features,
            )  # fmt: skip
            try:
                self._vectorizer.fit(texts)
            except ValueError:  # nothing occurs in two prompts
                unit = "characters"
                self._vectorizer.set_params(analyzer="char", token_pattern=None, min_df=1).fit(texts)
            told.append(f"TF-IDF of {unit} of whole prompts")
        if self._of is not Features.text:
            pooled = self._pooled(FITTED, fitted)
            self._mean, self._deviation = pooled.mean(axis=0), pooled.std(axis=0)
            told.append("pooled states")
        self.about = " and ".join(told)

    def features(self, split: str, prompts: IntArray) -> Any:
        """(P, D) sparse features of some of a split's unique prompts."""
        from scipy.sparse import csr_matrix, hstack

        blocks = []
        if self._of is not Features.states:
            blocks.append(self._vectorizer.transform(self._evidence.texts(split, prompts)))
        if self._of is not Features.text:
            scaled = (self._pooled(split, prompts) - self._mean) / np.where(self._deviation > 0, self._deviation, 1)
            blocks.append(csr_matrix(scaled / np.sqrt(scaled.shape[1])))
        return hstack(blocks).tocsr()

    def _pooled(self, split: str, prompts: IntArray) -> FloatArray:
        """(P, 2H) pooled states."""
        chunks = [self._evidence.states(split, prompts[i : i + CHUNK]) for i in range(0, len(prompts), CHUNK)]
        return np.concatenate([_flat(chunk) for chunk in chunks])


def _flat(states: Sequence[Tensor]) -> FloatArray:
    return np.stack([state.double().numpy().ravel() for state in states])


@dataclass(frozen=True)
class CrossFit:
    """Ridges of one penalty.

    Attributes:
        held_out: (G,) the prediction for each prompt by the fit without its fold.
        predict: (P, D) features → (P,) predictions of the fit on all prompts.
        penalty: that with the lowest held-out error; None: the mean is better than any, and is what is predicted.
        error, constant_error: held-out MSE, and that of predicting the mean of the other folds.
    """

    held_out: FloatArray
    predict: Prediction
    penalty: float | None
    error: float
    constant_error: float


def cross_fit(features: Any, targets: FloatArray, counts: FloatArray, folds: IntArray, bounds: tuple[float, float]) -> CrossFit:
    """Fit ridges without each fold, for the penalty with the lowest held-out error.

    Args:
        features: (G, D) sparse.
        targets: (G,) mean rewards.
        counts: (G,) weights.
        folds: (G,) the fold of each prompt.
        bounds: (lo, hi) that predictions are clipped to.
    """
    from sklearn.linear_model import Ridge

    def held_out(fit: Callable[[IntArray], Prediction]) -> FloatArray:
        predicted = np.empty_like(targets)
        for fold in np.unique(folds):
            unseen = np.flatnonzero(folds == fold)
            predicted[unseen] = fit(np.flatnonzero(folds != fold))(features[unseen])
        return predicted

    def error(predicted: FloatArray) -> float:
        return float(np.average((predicted - targets) ** 2, weights=counts))

    def mean_of(rows: IntArray) -> Prediction:
        mean = float(np.average(targets[rows], weights=counts[rows]))
        return lambda chosen: np.full(chosen.shape[0], mean)

    def ridge_of(penalty: float, rows: IntArray) -> Prediction:
        model = Ridge(alpha=penalty, solver="sparse_cg", tol=1e-6)
        model.fit(features[rows], targets[rows], sample_weight=counts[rows] / counts.mean())
        return lambda chosen: np.clip(model.predict(chosen), *bounds)

    everyone = np.arange(len(targets))
    constant = held_out(mean_of)
    found = {penalty: held_out(partial(ridge_of, penalty)) for penalty in PENALTIES}
    best = min(found, key=lambda penalty: error(found[penalty]))
    if error(found[best]) >= error(constant):
        return CrossFit(constant, mean_of(everyone), None, error(constant), error(constant))
    return CrossFit(found[best], ridge_of(best, everyone), best, error(found[best]), error(constant))
