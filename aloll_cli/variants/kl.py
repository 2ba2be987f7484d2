"""A-LoL KL: advantage-weighted NLL with a KL term to the reference."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from aloll_cli.schema import numbers
from aloll_cli.variants.base import Batch, Pointwise

if TYPE_CHECKING:
    from torch import Tensor


class Estimator(Enum):
    """The estimator of the KL term on logged responses."""

    k1 = "β ln(π/π_ref), the paper's"
    k2 = "β ½ Σ_t (ln r_t)², which pulls towards the reference"


@dataclass(kw_only=True)
class Kl(Pointwise):
    """A-LoL KL (Baheti et al. 2024, arXiv 2305.14718): advantage-weighted NLL with a KL term, −A⁺ ln π + β KL.

    k1, the paper's, adds β ln(π/π_ref). π_ref is constant, so the gradient of the loss is −(A⁺ − β) ∇ln π: on offline data it
    never pulls towards the reference, and lowers the likelihood of responses with 0 ≤ A < β. k2 does pull towards the
    reference: the gradient of its term is β ln r_t ∇ln π(y_t).
    """

    beta: float = field(metadata=numbers("[0, 1000]", 0.02))
    estimator: Estimator

    @property
    def needs_behaviour(self) -> bool:
        return self.estimator is Estimator.k2

    def loss(self, batch: Batch) -> Tensor:
        """(B,) one loss per response.

        k1: −(A⁺ − β) Σ_t ln π(y_t), without the constant; k2: −A⁺ Σ_t ln π(y_t) + β ½ Σ_t (ln r_t)².
        """
        if self.estimator is Estimator.k1:
            return -(batch.weights - self.beta) * batch.logps.sum(dim=-1)
        assert batch.behaviour_logps is not None
        log_ratio = batch.logps - batch.behaviour_logps
        return -batch.weights * batch.logps.sum(dim=-1) + self.beta * 0.5 * log_ratio.square().sum(dim=-1)

    def metrics(self, batch: Batch) -> dict[str, Tensor]:
        return {"below_beta": (batch.weights < self.beta).float()}
