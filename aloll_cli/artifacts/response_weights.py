"""The weights of logged responses in training and in weighted likelihoods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aloll_cli.artifacts.examples import Examples
from aloll_cli.artifacts.rewards import Rewards, load_rewards
from aloll_cli.errors import UserError
from aloll_cli.rewards.variation import spread, varies
from aloll_cli.store.store import Artifact, Job
from aloll_cli.text.examples import ExampleTable
from aloll_cli.variants.base import Signal

if TYPE_CHECKING:
    from aloll_cli.arrays import FloatArray
    from aloll_cli.artifacts.values import ValuesArtifact


@dataclass
class ResponseWeights:
    """The weights of a split's responses: 1, R, A⁺ = max(R − V, 0), or A without clamping."""

    signal: Signal
    examples: Examples
    split: str
    rewards: Rewards | None
    values: ValuesArtifact | None
    clamp: bool = True

    def inputs(self) -> dict[str, Artifact]:
        found: dict[str, Artifact | None] = {"rewards": self.rewards, "values": self.values}
        return {role: artifact for role, artifact in found.items() if artifact}

    def load(self, job: Job) -> tuple[FloatArray, FloatArray]:
        """(N,) rewards and (N,) weights."""
        import numpy as np

        from aloll_cli.artifacts.values import load_values

        if self.rewards is None:
            ones = np.ones(len(ExampleTable(job.path(self.examples) / self.split)))
            return np.zeros_like(ones), ones
        rewards = load_rewards(job.path(self.rewards))
        if self.values is None:
            return rewards, rewards
        advantages = rewards - load_values(job.path(self.values), self.split)
        if not np.isfinite(advantages).all():  # NaN would count as a weight other than 0
            raise UserError(f"{(~np.isfinite(advantages)).sum():,} {self.split} advantages are not finite.", self.signal.remedy)
        return rewards, np.maximum(advantages, 0) if self.clamp else advantages

    def check_rewards(self, rewards: FloatArray) -> str | None:
        """Whether (N,) rewards say which response is better than which.

        Returns:
            A warning where all weights are equal because the user set V(x) to one number; or None.

        Raises:
            UserError: the rewards do not vary beyond rounding, so that weights would be all equal, zero, or rounding errors.
        """
        if not varies(rewards) and self.values is not None and self.values.values.is_given:
            return f"{_equal(rewards, self.split)}: every response gets the same weight, as with variant=nll"
        check_varies(rewards, self.split)
        return None


def check_varies(rewards: FloatArray, split: str) -> None:
    """Raises UserError if the (N,) rewards of a split do not vary beyond rounding."""
    if not varies(rewards):
        raise UserError(
            f"{_equal(rewards, split)}, so they say of no response that it is better than another.",
            "Choose another reward or, for task=local, another column: task.columns.reward=COLUMN; "
            "or a method that reads no reward: variant=nll",
        )


def _equal(rewards: FloatArray, split: str) -> str:
    return f"the rewards of the {len(rewards):,} {split} responses do not vary beyond rounding ({spread(rewards)})"
