"""Plain supervised fine-tuning, the baseline and the maker of π_ref."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aloll_cli.variants.base import Batch, Pointwise, Signal

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(kw_only=True)
class Nll(Pointwise):
    """Negative log-likelihood: c_t = 1, every response counts the same."""

    signal = Signal.none

    def loss(self, batch: Batch) -> Tensor:
        """(B,) −Σ_t ln π(y_t)."""
        return -batch.logps.sum(dim=-1)
