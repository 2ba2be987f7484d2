"""Tapered off-policy REINFORCE: bad responses are made less likely, with a gradient that fades as they become unlikely."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aloll_cli.variants.base import Batch, Regression

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(kw_only=True)
class Topr(Regression):
    """TOPR (Le Roux et al. 2025, arXiv 2503.14286) on logged responses of either sign of A = R − V(x).

    A response with A ≥ 0 is imitated, with −A ln π. One with A < 0 is made less likely, with −A sg[min(ρ, 1)] ln π: its
    ratio ρ = π/π_ref tapers the gradient off as it becomes unlikely, so that the policy cannot run away. Losses are per token
    of the response, as in the paper.
    """

    def loss(self, batch: Batch) -> Tensor:
        """(B,) −A · (A ≥ 0 ? 1 : min(ρ, 1)) · ln π(y) / T."""
        advantage = batch.weights
        coefficient = advantage.where(advantage >= 0, advantage * self._tapered(batch))
        return -coefficient * batch.logps.sum(dim=-1) / batch.mask.sum(dim=-1)

    def metrics(self, batch: Batch) -> dict[str, Tensor]:
        """(B,) whether A ≥ 0, and min(ρ, 1)."""
        return {"positive": (batch.weights >= 0).float(), "taper": self._tapered(batch)}

    def _tapered(self, batch: Batch) -> Tensor:
        """(B,) min(ρ, 1) = e^{min(h, 0)}, detached; it cannot overflow."""
        return batch.log_ratio.sum(dim=-1).clamp(max=0).exp()
