"""A-LoL KL: the advantage-weighted likelihood with a KL term towards the reference."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from aloll_cli.schema import numbers
from aloll_cli.variants.base import Batch, Pointwise

if TYPE_CHECKING:
    from torch import Tensor


class Estimator(Enum):
    """How the KL term is estimated from the logged responses."""

    k1 = "β ln(π/π_ref): the paper's"
    k2 = "β ½ Σ_t (ln r_t)²: pulls towards the reference"


@dataclass(kw_only=True)
class Kl(Pointwise):
    """A-LoL KL: −A⁺ ln π + β KL.

    k1, the paper's, adds β ln(π/π_ref). As π_ref is constant its gradient is −(A⁺ − β) ∇ln π: on offline data it never
    pulls towards the reference, and a response with 0 ≤ A < β is pushed down. k2 does pull: β ln r_t ∇ln π(y_t).
    """

    beta: float = field(metadata=numbers("[0, 1000]", 0.02))
    estimator: Estimator

    @property
    def needs_behaviour(self) -> bool:
        return self.estimator is Estimator.k2

    def loss(self, batch: Batch) -> Tensor:
        """(B,) −(A⁺ − β) Σ_t ln π(y_t) under k1 (its constant left out), −A⁺ Σ_t ln π(y_t) + β ½ Σ_t (ln r_t)² under k2."""
        if self.estimator is Estimator.k1:
            return -(batch.weights - self.beta) * batch.logps.sum(dim=-1)
        assert batch.behaviour_logps is not None
        log_ratio = batch.logps - batch.behaviour_logps
        return -batch.weights * batch.logps.sum(dim=-1) + self.beta * 0.5 * log_ratio.square().sum(dim=-1)

    def metrics(self, batch: Batch) -> dict[str, Tensor]:
        return {"below_beta": (batch.weights < self.beta).float()}
