"""REINFORCE leave-one-out: several samples for each prompt are each other's baseline."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aloll_cli.errors import UserError
from aloll_cli.schema import numbers
from aloll_cli.variants.base import Batch, Grouped

if TYPE_CHECKING:
    from torch import Tensor

    from aloll_cli.arrays import FloatArray


@dataclass(kw_only=True)
class Rloo(Grouped):
    """RLOO (Ahmadian et al. 2024, arXiv 2402.14740): REINFORCE on k samples per prompt, −A Σ_t ln π(y_t).

    The advantage of a sample is its score S = R − β h minus the mean score of the other k − 1, with h = ln π_old − ln π_ref.
    There is no ratio and no clip, so a rollout is for one step: ``variant.rollout_size=batch_size variant.epochs=1``.
    """

    beta: float = field(metadata=numbers("[0, 1000]", 0.03))  # weight of the KL to the reference, in reward per nat

    def check(self, reward_range: tuple[float, float], batch_size: int) -> None:
        super().check(reward_range, batch_size)
        if self.rollout_size != batch_size or self.epochs != 1:
            steps = self.rollout_size // batch_size * self.epochs
            raise UserError(
                f"variant=rloo would take {steps} steps on each rollout (variant.rollout_size={self.rollout_size}, "
                f"variant.epochs={self.epochs}, batch_size={batch_size}), but has no ratio to the policy that generated it.",
                f"variant.rollout_size={batch_size} variant.epochs=1, or variant=grpo",
            )

    def advantages(self, rewards: FloatArray, log_ratios: FloatArray, values: FloatArray) -> FloatArray:
        """(N,) A_i = S_i − (1/(k − 1)) Σ_{j ≠ i} S_j over the k samples for a prompt."""
        scores = (rewards - self.beta * log_ratios).reshape(-1, self.samples)
        others = (scores.sum(axis=1, keepdims=True) - scores) / (self.samples - 1)
        advantages: FloatArray = (scores - others).ravel()
        return advantages

    def loss(self, batch: Batch) -> Tensor:
        """(B,) −A Σ_t ln π(y_t)."""
        return -batch.weights * batch.logps.sum(dim=-1)

    def metrics(self, batch: Batch) -> dict[str, Tensor]:
        return {"advantage": batch.weights}
