"""A-LoL: the whole response is one action with one importance ratio."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aloll_cli.variants.base import CLIP, Batch, Pointwise, clipped

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(kw_only=True)
class Alol(Pointwise):
    """A-LoL (Baheti et al. 2024, arXiv 2305.14718): NLL weighted by A⁺ and by the response's clipped importance ratio.

    c_t = A⁺ · clip(ρ) with ρ = Π_t π(y_t) / π_ref(y_t).
    """

    clip: float | None = field(metadata=CLIP)  # ρ is clipped to [1 - clip, 1 + clip]; null: no clipping

    @property
    def needs_behaviour(self) -> bool:
        return True

    def loss(self, batch: Batch) -> Tensor:
        """(B,) one loss per response: −A⁺ clip(sg[ρ]) Σ_t ln π(y_t)."""
        ratio = batch.log_ratio.sum(dim=-1).exp()
        return -batch.weights * clipped(ratio, self.clip) * batch.logps.sum(dim=-1)

    def metrics(self, batch: Batch) -> dict[str, Tensor]:
        ratio = batch.log_ratio.sum(dim=-1).exp()
        return {"clip_fraction": (clipped(ratio, self.clip) != ratio).float()}
