"""Weighted behaviour cloning: supervised fine-tuning, weighted by the reward."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aloll_cli.variants.base import Batch, Pointwise, Signal

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(kw_only=True)
class Wbc(Pointwise):
    """Weighted behaviour cloning (Baheti et al. 2024, arXiv 2305.14718, baseline wBC): NLL weighted by the reward, c_t = R."""

    signal = Signal.reward

    def loss(self, batch: Batch) -> Tensor:
        """(B,) one loss per response: −R Σ_t ln π(y_t)."""
        return -batch.weights * batch.logps.sum(dim=-1)
