"""Group relative policy optimization: advantages are standardized among several samples for each prompt."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from aloll_cli.schema import numbers
from aloll_cli.variants.base import Batch, Grouped, clip_fraction, clipped
from aloll_cli.variants.ppo import FAR

if TYPE_CHECKING:
    from torch import Tensor

    from aloll_cli.arrays import FloatArray


@dataclass(kw_only=True)
class Grpo(Grouped):
    """GRPO (Shao et al. 2024, arXiv 2402.03300) on k samples per prompt, whose tokens share one advantage.

    Advantages are A_i = (R_i − mean R) / (s.d. R + 10⁻⁴) among the samples for a prompt. The loss of a response is the mean
    over its tokens of −min(r_t A, clip(r_t) A) + β (e^d − d − 1), d = ln π_ref(y_t) − ln π(y_t): the KL to the reference
    stands in the loss, not in the reward.
    """

    needs_reference: ClassVar[bool] = True

    clip: float = field(metadata=numbers("(0, 1)", 0.2))  # token ratios are clipped to [1 - clip, 1 + clip]
    beta: float = field(metadata=numbers("[0, 1000]", 0.04))  # weight of the KL to the reference

    def advantages(self, rewards: FloatArray, log_ratios: FloatArray, values: FloatArray) -> FloatArray:
        """(N,) rewards, standardized among the k samples for a prompt; 0 where these are equal."""
        by_prompt = rewards.reshape(-1, self.samples)
        centred = by_prompt - by_prompt.mean(axis=1, keepdims=True)
        advantages: FloatArray = (centred / (by_prompt.std(axis=1, ddof=1, keepdims=True) + 1e-4)).ravel()
        return advantages

    def loss(self, batch: Batch) -> Tensor:
        """(B,) (1/T) Σ_t [−min(r_t A, clip(r_t) A) + β (e^d − d − 1)], with gradient through r_t = π(y_t) / π_old(y_t) and d."""
        assert batch.behaviour_logps is not None
        assert batch.reference_logps is not None
        ratio, advantage = (batch.logps - batch.behaviour_logps).clamp(max=FAR).exp(), batch.weights[:, None]
        surrogate = (ratio * advantage).minimum(clipped(ratio, self.clip) * advantage)
        apart = (batch.reference_logps - batch.logps).clamp(max=FAR)
        penalty = apart.exp() - apart - 1
        return ((self.beta * penalty - surrogate) * batch.mask).sum(dim=-1) / batch.mask.sum(dim=-1)

    def metrics(self, batch: Batch) -> dict[str, Tensor]:
        return {"clip_fraction": clip_fraction(batch.log_ratio.exp(), self.clip, batch.mask), "advantage": batch.weights}
