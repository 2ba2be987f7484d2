"""Supervised fine-tuning: the baseline, and the method that trains π_ref."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aloll_cli.variants.base import Batch, Pointwise, Signal

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(kw_only=True)
class Nll(Pointwise):
    """Negative log-likelihood (Baheti et al. 2024, arXiv 2305.14718, baseline NLL): c_t = 1 for all responses."""

    signal = Signal.none

    def loss(self, batch: Batch) -> Tensor:
        """(B,) one loss per response: −Σ_t ln π(y_t)."""
        return -batch.logps.sum(dim=-1)
