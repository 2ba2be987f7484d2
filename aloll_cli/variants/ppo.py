"""Proximal policy optimization: the online method that the offline ones are compared with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from aloll_cli.schema import numbers
from aloll_cli.variants.base import Batch, Online, clip_fraction, clipped

if TYPE_CHECKING:
    from torch import Tensor

    from aloll_cli.arrays import FloatArray


FAR = 20.0  # largest log-ratio with a gradient: beyond, e^x could overflow and give NaN


@dataclass(kw_only=True)
class Ppo(Online):
    """PPO (Schulman et al. 2017, arXiv 1707.06347) with a whole response as one action: its tokens share one advantage.

    Rollouts are sampled from the current policy, π_old, and ratios are relative to it. The KL penalty is part of the reward, as
    in Ouyang et al. 2022 (arXiv 2203.02155). V is that of the reference and stays fixed: it knows neither the penalty nor what
    the policy has learned, so the rollout's mean is subtracted as well.
    """

    version: ClassVar[int] = 2  # advantages without the rollout's mean

    clip: float = field(metadata=numbers("(0, 1)", 0.2))  # token ratios are clipped to [1 - clip, 1 + clip]
    beta: float = field(metadata=numbers("[0, 1000]", 0.02))  # weight of the KL to the reference, in reward per nat

    def advantages(self, rewards: FloatArray, log_ratios: FloatArray, values: FloatArray) -> FloatArray:
        """(N,) advantages with mean 0: A_i = S_i − (1/N) Σ_j S_j, S_i = R_i − β h_i − V_ref(x_i), h = Σ_t ln(π_old / π_ref).

        V_ref(x) reduces the variance between prompts. Without the mean, advantages would fall by β times the KL as the policy
        moves: all responses would become less likely, and the policy would run away. The mean includes S_i itself; that scales
        the expected gradient by (N − 1)/N and adds no bias.
        """
        scores = rewards - self.beta * log_ratios - values
        centred: FloatArray = scores - scores.mean()
        return centred

    def loss(self, batch: Batch) -> Tensor:
        """(B,) one loss per response: −Σ_t min(r_t A, clip(r_t) A), with gradient through r_t = π(y_t) / π_old(y_t)."""
        assert batch.behaviour_logps is not None
        ratio, advantage = (batch.logps - batch.behaviour_logps).clamp(max=FAR).exp(), batch.weights[:, None]
        surrogate = (ratio * advantage).minimum(clipped(ratio, self.clip) * advantage)
        return -(surrogate * batch.mask).sum(dim=-1)

    def metrics(self, batch: Batch) -> dict[str, Tensor]:
        return {"clip_fraction": clip_fraction(batch.log_ratio.exp(), self.clip, batch.mask), "advantage": batch.weights}
