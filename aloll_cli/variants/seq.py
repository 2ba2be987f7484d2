"""A-LoL sequence: a ratio of its own for every token."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aloll_cli.variants.base import CLIP, Batch, Pointwise, clip_fraction, clipped

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(kw_only=True)
class Seq(Pointwise):
    """A-LoL sequence: c_t = A⁺ · clip(r_t), every token carries its own clipped importance ratio."""

    clip: float | None = field(metadata=CLIP)  # r_t stays in [1 - clip, 1 + clip]; null leaves it alone

    @property
    def needs_behaviour(self) -> bool:
        return True

    def loss(self, batch: Batch) -> Tensor:
        """(B,) −A⁺ Σ_t clip(sg[r_t]) ln π(y_t)."""
        ratio = clipped(batch.log_ratio.exp(), self.clip)
        return -batch.weights * (ratio * batch.logps).sum(dim=-1)

    def metrics(self, batch: Batch) -> dict[str, Tensor]:
        return {"clip_fraction": clip_fraction(batch.log_ratio.exp(), self.clip, batch.mask)}
