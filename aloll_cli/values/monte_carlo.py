"""The mean reward of new samples of π_ref."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from aloll_cli.models.decoding import Generation, Sample
from aloll_cli.schema import COUNT, SEED, numbers
from aloll_cli.values.base import Estimate, Evidence, LoggedRewards, Values

if TYPE_CHECKING:
    from aloll_cli.arrays import FloatArray


@dataclass(frozen=True)
class ByPrompt(Estimate):
    """One value per training prompt.

    Attributes:
        means: (G,) values of the unique prompts.
    """

    means: FloatArray

    def of(self, split: str, logged: LoggedRewards, rows: slice) -> FloatArray:
        return self.means[logged.groups[rows]]


@dataclass(kw_only=True)
class MonteCarlo(Values):
    """The mean reward of new samples of π_ref for each training prompt: an unbiased estimate, only sampling noise."""

    samples: int = field(metadata=COUNT)  # per prompt
    seed: int = field(metadata=SEED)
    top_p: float = field(metadata=numbers("(0, 1]", 1.0))
    temperature: float = field(metadata=numbers("(0, 100]", 1.0))

    splits = ("train",)

    @property
    def sampled_on(self) -> str | None:
        return "train"

    def sampling(self, generation: Generation) -> Generation:
        return Sample(
            samples=self.samples, seed=self.seed, top_p=self.top_p, temperature=self.temperature, repetition_penalty=1.0
        )

    def estimate(self, evidence: Evidence) -> Estimate:
        assert evidence.sample_rewards is not None
        means = evidence.sample_rewards.mean(axis=1)
        if self.samples > 1:
            noise = np.sqrt(evidence.sample_rewards.var(axis=1, ddof=1).mean() / self.samples)
            error = f"standard error of V(x) {noise:.3f}, standard deviation over prompts {means.std():.3f}"
            evidence.say(f"  {self.samples} samples per prompt: {error}")
        return ByPrompt(means)
