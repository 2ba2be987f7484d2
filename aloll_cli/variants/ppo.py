"""Proximal policy optimisation on responses that the policy itself draws: the online method that the others are held against."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aloll_cli.schema import numbers
from aloll_cli.variants.base import Batch, Online, clip_fraction, clipped

if TYPE_CHECKING:
    from torch import Tensor

    from aloll_cli.arrays import FloatArray


FAR = 20.0  # of a log-ratio: what lies beyond has no gradient, where e^x would overflow and leave NaN


@dataclass(kw_only=True)
class Ppo(Online):
    """PPO (Schulman et al. 2017) in the one-step game: a whole response is one action, and its tokens share one advantage.

    A rollout is answered by the policy as it then is, π_old, which the ratios are taken to. The baseline is V of the
    reference, which is not trained further.
    """

    clip: float = field(metadata=numbers("(0, 1)", 0.2))  # a ratio gains nothing beyond [1 - clip, 1 + clip]
    beta: float = field(metadata=numbers("[0, 1000]", 0.02))  # of the KL to the reference, in reward a nat

    def advantages(self, rewards: FloatArray, log_ratios: FloatArray, values: FloatArray) -> FloatArray:
        """(N,) A = R − β Σ_t ln(π_old / π_ref) − V_ref(x)."""
        return rewards - self.beta * log_ratios - values

    def loss(self, batch: Batch) -> Tensor:
        """(B,) −Σ_t min(r_t A, clip(r_t) A), with the gradient of r_t = π(y_t) / π_old(y_t)."""
        assert batch.behaviour_logps is not None
        ratio, advantage = (batch.logps - batch.behaviour_logps).clamp(max=FAR).exp(), batch.weights[:, None]
        surrogate = (ratio * advantage).minimum(clipped(ratio, self.clip) * advantage)
        return -(surrogate * batch.mask).sum(dim=-1)

    def metrics(self, batch: Batch) -> dict[str, Tensor]:
        return {"clip_fraction": clip_fraction(batch.log_ratio.exp(), self.clip, batch.mask), "advantage": batch.weights}
