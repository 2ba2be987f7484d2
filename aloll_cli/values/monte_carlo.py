"""The mean reward of new samples of π_ref."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from aloll_cli.models.decoding import Generation, Sample
from aloll_cli.schema import COUNT, SEED, numbers
from aloll_cli.values.base import Estimate, Evidence, LoggedRewards, Values, without_rounding

if TYPE_CHECKING:
    from aloll_cli.arrays import FloatArray


class Aggregate(Enum):
    """How the rewards of the samples for a prompt become its value."""

    mean = "their mean: the expected reward of the reference"
    log_mean_exp = "β ln mean e^{R/β}: the value of the optimal policy under a KL penalty β"


@dataclass(frozen=True)
class ByPrompt(Estimate):
    """One value per training prompt.

    Attributes:
        means: (G,) values of the unique prompts.
    """

    means: FloatArray

    def of(self, split: str, logged: LoggedRewards, rows: slice) -> FloatArray:
        rewards = logged.rewards[rows] if logged.rewards is not None else None
        return without_rounding(self.means[logged.groups[rows]], rewards)


@dataclass(kw_only=True)
class MonteCarlo(Values):
    """The mean reward of new samples of π_ref for each training prompt: an unbiased estimate of V(x) under the samples' decoding.

    With ``aggregate=log_mean_exp`` it is V*(x) = β ln E e^{R/β} instead, the value of π ∝ π_ref e^{R/β} under a KL penalty β. The
    estimate from k samples is too low, by about var(e^{R/β}) / (2k) · β / E[e^{R/β}]².
    """

    version: ClassVar[int] = 2  # no advantage by rounding

    samples: int = field(metadata=COUNT)  # per prompt
    aggregate: Aggregate
    beta: float = field(metadata=numbers("(0, 1000]", 0.1))
    seed: int = field(metadata=SEED)
    top_p: float = field(metadata=numbers("(0, 1]", 1.0))
    temperature: float = field(metadata=numbers("(0, 100]", 1.0))

    splits = ("train",)

    @property
    def sampled_on(self) -> str | None:
        return "train"

    @property
    def is_soft(self) -> bool:
        return self.aggregate is Aggregate.log_mean_exp

    def sampling(self, generation: Generation) -> Generation:
        return Sample(
            samples=self.samples, seed=self.seed, top_p=self.top_p, temperature=self.temperature, repetition_penalty=1.0
        )

    def estimate(self, evidence: Evidence) -> Estimate:
        assert evidence.sample_rewards is not None
        if self.is_soft:
            return ByPrompt(log_mean_exp(evidence.sample_rewards, self.beta))
        means = evidence.sample_rewards.mean(axis=1)
        if self.samples > 1:
            noise = np.sqrt(evidence.sample_rewards.var(axis=1, ddof=1).mean() / self.samples)
            error = f"standard error of V(x) {noise:.3f}, standard deviation over prompts {means.std():.3f}"
            evidence.say(f"  {self.samples} samples per prompt: {error}")
        return ByPrompt(means)


def log_mean_exp(rewards: FloatArray, beta: float) -> FloatArray:
    """(M, k) rewards → (M,) β ln mean_i e^{R_i/β}."""
    from scipy.special import logsumexp

    values: FloatArray = beta * (logsumexp(rewards / beta, axis=1) - np.log(rewards.shape[1]))
    return values
