"""Reward GOLD: the policy's own probability as importance weight."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aloll_cli.schema import numbers
from aloll_cli.variants.base import Batch, Pointwise, Signal

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(kw_only=True)
class RGold(Pointwise):
    """Reward GOLD: NLL weighted by R and by each token's own probability, as if the behaviour policy were uniform.

    c_t = R · max(π(y_t), u) (GOLD: Pang and He 2021, arXiv 2009.07839; with rewards: Baheti et al. 2024, arXiv 2305.14718).
    """

    floor: float = field(metadata=numbers("[0, 1]", 0.1))  # u, lower bound on a token's weight; 0.1 in the paper

    signal = Signal.reward

    def loss(self, batch: Batch) -> Tensor:
        """(B,) one loss per response: −R Σ_t max(sg[π(y_t)], u) ln π(y_t)."""
        weight = batch.logps.detach().exp().clamp(min=self.floor)
        return -batch.weights * (weight * batch.logps).sum(dim=-1)
