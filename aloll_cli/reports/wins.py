"""How often one side gets a higher reward than the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from aloll_cli.arrays import FloatArray

EQUAL = 1e-9  # smaller differences are rounding


@dataclass(frozen=True)
class Wins:
    """Prompts on which the policy gets a higher, an equal and a lower reward than the reference."""

    wins: int
    ties: int
    losses: int

    @property
    def shares(self) -> tuple[float, float, float]:
        """The same as shares of all prompts."""
        total = self.wins + self.ties + self.losses
        return self.wins / total, self.ties / total, self.losses / total

    def __str__(self) -> str:
        wins, ties, losses = self.shares
        return f"wins {self.wins:,} ({wins:.1%}), ties {self.ties:,} ({ties:.1%}), losses {self.losses:,} ({losses:.1%})"


def wins(gains: FloatArray) -> Wins:
    """Count (G,) gains by prompt, at least one."""
    return Wins(int(np.sum(gains > EQUAL)), int(np.sum(np.abs(gains) <= EQUAL)), int(np.sum(gains < -EQUAL)))
