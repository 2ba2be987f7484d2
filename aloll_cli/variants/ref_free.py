"""A-LoL without the reference: the importance ratio is set to 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aloll_cli.variants.base import Batch, Pointwise

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(kw_only=True)
class RefFree(Pointwise):
    """A-LoL reference-free (Baheti et al. 2024, arXiv 2305.14718): NLL weighted by the advantage, c_t = A⁺."""

    def loss(self, batch: Batch) -> Tensor:
        """(B,) one loss per response: −A⁺ Σ_t ln π(y_t)."""
        return -batch.weights * batch.logps.sum(dim=-1)
