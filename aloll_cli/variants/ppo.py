"""Proximal policy optimization: the online method that the offline ones are compared with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aloll_cli.schema import numbers
from aloll_cli.variants.base import Batch, Online, clip_fraction, clipped

if TYPE_CHECKING:
    from torch import Tensor

    from aloll_cli.arrays import FloatArray


FAR = 20.0  # largest log-ratio with a gradient: beyond, e^x could overflow and give NaN


@dataclass(kw_only=True)
class Ppo(Online):
    """PPO (Schulman et al. 2017, arXiv 1707.06347) with a whole response as one action: its tokens share one advantage.

    Rollouts are sampled from the current policy, π_old, and ratios are relative to it. The baseline is V of the reference,
    which stays fixed.
    """

    clip: float = field(metadata=numbers("(0, 1)", 0.2))  # token ratios are clipped to [1 - clip, 1 + clip]
    beta: float = field(metadata=numbers("[0, 1000]", 0.02))  # weight of the KL to the reference, in reward per nat

    def advantages(self, rewards: FloatArray, log_ratios: FloatArray, values: FloatArray) -> FloatArray:
        """(N,) advantages A = R − β Σ_t ln(π_old / π_ref) − V_ref(x)."""
        return rewards - self.beta * log_ratios - values

    def loss(self, batch: Batch) -> Tensor:
        """(B,) one loss per response: −Σ_t min(r_t A, clip(r_t) A), with gradient through r_t = π(y_t) / π_old(y_t)."""
        assert batch.behaviour_logps is not None
        ratio, advantage = (batch.logps - batch.behaviour_logps).clamp(max=FAR).exp(), batch.weights[:, None]
        surrogate = (ratio * advantage).minimum(clipped(ratio, self.clip) * advantage)
        return -(surrogate * batch.mask).sum(dim=-1)

    def metrics(self, batch: Batch) -> dict[str, Tensor]:
        return {"clip_fraction": clip_fraction(batch.log_ratio.exp(), self.clip, batch.mask), "advantage": batch.weights}
