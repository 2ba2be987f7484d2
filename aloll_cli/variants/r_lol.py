"""Reward LoL: A-LoL with the raw reward in place of the advantage."""

from __future__ import annotations

from dataclasses import dataclass

from aloll_cli.variants.alol import Alol
from aloll_cli.variants.base import Signal


@dataclass(kw_only=True)
class RLol(Alol):
    """Reward LoL: c_t = R · clip(ρ), the whole response carries one importance ratio."""

    signal = Signal.reward
