"""A-LoL sequence: one importance ratio per token."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aloll_cli.variants.base import CLIP, Batch, Pointwise, clip_fraction, clipped

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(kw_only=True)
class Seq(Pointwise):
    """A-LoL sequence (Baheti et al. 2024, arXiv 2305.14718): NLL weighted by A⁺ and by each token's clipped importance ratio.

    c_t = A⁺ · clip(r_t) with r_t = π(y_t) / π_ref(y_t).
    """

    clip: float | None = field(metadata=CLIP)  # r_t is clipped to [1 - clip, 1 + clip]; null: no clipping

    @property
    def needs_behaviour(self) -> bool:
        return True

    def loss(self, batch: Batch) -> Tensor:
        """(B,) one loss per response: −A⁺ Σ_t clip(sg[r_t]) ln π(y_t)."""
        ratio = clipped(batch.log_ratio.exp(), self.clip)
        return -batch.weights * (ratio * batch.logps).sum(dim=-1)

    def metrics(self, batch: Batch) -> dict[str, Tensor]:
        return {"clip_fraction": clip_fraction(batch.log_ratio.exp(), self.clip, batch.mask)}
