"""Empirical Bayes: the mean reward of a few samples of the prompt, shrunk towards what is predicted from the prompt."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from aloll_cli.errors import UserError
from aloll_cli.models.decoding import Generation, Sample
from aloll_cli.schema import COUNT, numbers
from aloll_cli.values.base import Estimate, Evidence, LoggedRewards
from aloll_cli.values.monte_carlo import ByPrompt
from aloll_cli.values.regression import FITTED, RidgeValues

if TYPE_CHECKING:
    from aloll_cli.arrays import FloatArray


@dataclass(frozen=True)
class Shrinkage:
    """How much the samples' mean of a prompt counts, V = λ m + (1 − λ) f, where f is what is predicted without it.

    Where V(x) varies around f(x) with variance τ², and m around V(x) with σ²/k, the mean squared error is least at
    λ = τ² / (τ² + σ²/k) (Efron & Morris 1975), and is then λ σ²/k.

    Attributes:
        residual: τ², estimated as the mean of (m − f)² less σ²/k, at least 0.
        noise: σ²/k.
        weight: λ.
    """

    residual: float
    noise: float

    @property
    def weight(self) -> float:
        return self.residual / (self.residual + self.noise) if self.residual + self.noise else 0.0

    @property
    def error(self) -> float:
        """The expected squared error of V."""
        return self.weight * self.noise


def shrinkage(means: FloatArray, predicted: FloatArray, noise: float) -> Shrinkage:
    """From (G,) means of samples, (G,) predictions that did not use them, and the variance σ²/k of a mean."""
    return Shrinkage(max(float(np.mean((means - predicted) ** 2)) - noise, 0.0), noise)


def variance_within(logged: LoggedRewards) -> float | None:
    """The variance of rewards between the logged responses to a prompt, pooled; None where no prompt has several."""
    assert logged.rewards is not None
    counts = np.bincount(logged.groups)
    means = np.bincount(logged.groups, weights=logged.rewards) / counts
    degrees = int((counts - 1).sum())
    return float(((logged.rewards - means[logged.groups]) ** 2).sum() / degrees) if degrees else None


@dataclass(kw_only=True)
class Blend(RidgeValues):
    """The mean reward of k samples of π_ref for each training prompt, shrunk towards a ridge on those of the other prompts."""

    samples: int = field(metadata=COUNT)  # per prompt
    top_p: float = field(metadata=numbers("(0, 1]", 1.0))
    temperature: float = field(metadata=numbers("(0, 100]", 1.0))

    splits = (FITTED,)

    @property
    def sampled_on(self) -> str | None:
        return FITTED

    def sampling(self, generation: Generation) -> Generation:
        return Sample(
            samples=self.samples, seed=self.seed, top_p=self.top_p, temperature=self.temperature, repetition_penalty=1.0
        )

    def estimate(self, evidence: Evidence) -> Estimate:
        assert evidence.sample_rewards is not None
        means, k = evidence.sample_rewards.mean(axis=1), evidence.sample_rewards.shape[1]
        predicted = self.fit(means, np.ones_like(means), evidence).held_out
        found = shrinkage(means, predicted, self._variance(evidence) / k)
        spread = float(means.var()) - found.noise  # of V(x) over prompts
        explained = f", so {max(1 - found.error / spread, 0):.1%} of the variance of V(x) is explained" if spread > 0 else ""
        counted = "1 sample" if k == 1 else f"{k} samples"
        evidence.say(
            f"  blend with {counted} per prompt: weight of the samples' mean λ = {found.weight:.3f} "
            f"(variance of V(x) around the ridge {found.residual:.5f}, of the samples' mean around V(x) {found.noise:.5f}); "
            f"expected MSE of V(x) {found.error:.5f}{explained}"
        )
        return ByPrompt(found.weight * means + (1 - found.weight) * predicted)

    def _variance(self, evidence: Evidence) -> float:
        """σ², of the reward of a sample given the prompt: from the samples, or with one per prompt from the logged responses."""
        assert evidence.sample_rewards is not None
        if evidence.sample_rewards.shape[1] > 1:
            return float(evidence.sample_rewards.var(axis=1, ddof=1).mean())
        found = variance_within(evidence.train)
        if found is None:
            raise UserError(
                "values=blend cannot tell how much one sample varies: values.samples=1, and no prompt has two logged responses.",
                "values.samples=2",
            )
        evidence.say(f"  one sample per prompt: its variance, {found:.5f}, is taken from the logged responses to the same prompt")
        return found
