"""Kahneman-Tversky optimization: desirable responses become more likely than undesirable ones, one by one, without pairs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from aloll_cli.schema import numbers
from aloll_cli.variants.base import Batch, Logged, Regression

if TYPE_CHECKING:
    from torch import Tensor

    from aloll_cli.arrays import FloatArray


@dataclass(kw_only=True)
class Kto(Regression):
    """KTO (Ethayarajh et al. 2024, arXiv 2402.01306) on single responses that are desirable or not.

    The loss is λ_D (1 − σ(β (h − z))) of a desirable response, λ_U (1 − σ(β (z − h))) of another, with h = ln π − ln π_ref. z
    estimates KL(π ‖ π_ref), without gradient: the mean h of the whole step's prompts with responses to other prompts, at least 0.
    A response is desirable if A = R − V(x) ≥ 0, or with a ``threshold``, as for labels 0 and 1, if R is at least that.
    """

    beta: float = field(metadata=numbers("(0, 1000]", 0.1))
    desirable_weight: float = field(metadata=numbers("(0, 1000]", 1.0))
    undesirable_weight: float = field(metadata=numbers("(0, 1000]", 1.0))
    threshold: float | None

    @property
    def needs_values(self) -> bool:
        return self.threshold is None

    @property
    def needs_mismatched(self) -> bool:
        return True

    def targets(self, logged: Logged) -> FloatArray:
        """(N,) 1 for desirable responses, −1 for others."""
        desirable = super().targets(logged) >= 0 if self.threshold is None else logged.rewards >= self.threshold
        return np.where(desirable, 1.0, -1.0)

    def loss(self, batch: Batch) -> Tensor:
        """(B,) λ (1 − σ(±β (h − z))), + and λ_D of desirable responses, − and λ_U of others."""
        weight = batch.weights.new_tensor([self.undesirable_weight, self.desirable_weight])[(batch.weights > 0).long()]
        return weight * (-batch.weights * self.beta * (batch.response_log_ratios - self._distance(batch))).sigmoid()

    def metrics(self, batch: Batch) -> dict[str, Tensor]:
        """(B,) whether a response is desirable, and z."""
        return {"desirable": (batch.weights > 0).float(), "z": self._distance(batch).expand(len(batch.weights))}

    def _distance(self, batch: Batch) -> Tensor:
        """() z."""
        assert batch.mismatched_log_ratios is not None
        return batch.mismatched_log_ratios.mean().clamp(min=0)
