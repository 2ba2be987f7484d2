"""A*-PO, offline: the log-ratio of each response is fitted to its optimal advantage."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aloll_cli.schema import numbers
from aloll_cli.variants.base import Batch, Regression

if TYPE_CHECKING:
    from torch import Tensor

    from aloll_cli.arrays import FloatArray


@dataclass(kw_only=True)
class AStar(Regression):
    """The regression of A*-PO (Brantley et al. 2025, arXiv 2505.20686) on logged responses: (β₂ h − (R − V*))², h = ln π/π_ref.

    V* = β₁ ln E_{y ~ π_ref} e^{R/β₁} is the value of the optimal policy under a KL penalty β₁, estimated from samples of
    π_ref: this is ``values=soft``, which the variant chooses, and β₁ is ``values.beta``. With β₂ = β₁ the loss is smallest
    where π ∝ π_ref e^{R/β₁}. The paper draws y from the policy; this is the offline form.
    """

    beta: float = field(metadata=numbers("(0, 1000]", 0.1))

    @property
    def soft_values(self) -> bool:
        return True

    def optimal_log_ratios(self, targets: FloatArray) -> FloatArray:
        """(N,) A*/β₂."""
        return targets / self.beta

    def loss(self, batch: Batch) -> Tensor:
        """(B,) (β₂ h − A*)²."""
        return (self.beta * batch.response_log_ratios - batch.weights).square()
