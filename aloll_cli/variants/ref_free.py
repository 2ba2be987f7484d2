"""A-LoL without the reference: the importance ratio is taken to be 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aloll_cli.variants.base import Batch, Pointwise

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(kw_only=True)
class RefFree(Pointwise):
    """A-LoL reference-free: c_t = A⁺."""

    def loss(self, batch: Batch) -> Tensor:
        """(B,) −A⁺ Σ_t ln π(y_t)."""
        return -batch.weights * batch.logps.sum(dim=-1)
