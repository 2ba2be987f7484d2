"""Advantage-weighted regression: likelihood weighted by the exponential of the advantage."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aloll_cli.schema import numbers
from aloll_cli.variants.base import Batch, Logged, Regression

if TYPE_CHECKING:
    from torch import Tensor

    from aloll_cli.arrays import FloatArray


@dataclass(kw_only=True)
class Awr(Regression):
    """AWR (Peng et al. 2019, arXiv 1910.00177) on logged responses: −min(e^{A/β}, w_max) Σ_t ln π(y_t).

    A is standardized over the training responses, as in the authors' code. Every response is imitated, the better ones more.
    """

    beta: float = field(metadata=numbers("(0, 1000]", 1.0))
    max_weight: float = field(metadata=numbers("(0, inf)", 20.0))

    @property
    def needs_behaviour(self) -> bool:
        return False

    def targets(self, logged: Logged) -> FloatArray:
        """(N,) advantages with mean 0 and standard deviation 1."""
        advantages = super().targets(logged)
        standardized: FloatArray = (advantages - advantages.mean()) / max(float(advantages.std()), 1e-6)
        return standardized

    def loss(self, batch: Batch) -> Tensor:
        """(B,) −min(e^{A/β}, w_max) Σ_t ln π(y_t)."""
        return -self._weights(batch) * batch.logps.sum(dim=-1)

    def metrics(self, batch: Batch) -> dict[str, Tensor]:
        """(B,) the weights of the responses."""
        return {"weight": self._weights(batch)}

    def _weights(self, batch: Batch) -> Tensor:
        return (batch.weights / self.beta).exp().clamp(max=self.max_weight)
