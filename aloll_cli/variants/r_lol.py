"""Reward LoL: A-LoL with the raw reward in place of the advantage."""

from __future__ import annotations

from dataclasses import dataclass

from aloll_cli.variants.alol import Alol
from aloll_cli.variants.base import Signal


@dataclass(kw_only=True)
class RLol(Alol):
    """Reward LoL (Baheti et al. 2024, arXiv 2305.14718): NLL weighted by R and by the response's clipped importance ratio.

    c_t = R · clip(ρ) with ρ = Π_t π(y_t) / π_ref(y_t).
    """

    signal = Signal.reward
