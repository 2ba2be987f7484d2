"""REBEL: regression of differences of rewards on differences of log-ratios."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from aloll_cli.schema import numbers
from aloll_cli.variants.base import Batch, Groupwise

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(kw_only=True)
class Rebel(Groupwise):
    """REBEL (Gao et al. 2024, arXiv 2404.16767) on all pairs of logged responses with different rewards.

    The loss of a pair is (β (h_i − h_j) − (R_i − R_j))² with h = ln π − ln π_ref and β = 1/η: unlike in DPO and IPO, the
    difference of the rewards counts. It is smallest where π ∝ π_ref e^{R/β}. The loss of a prompt is the mean over its pairs;
    the paper takes the best and the worst of several responses.
    """

    version: ClassVar[int] = 2  # responses of the same tokens are no pair

    beta: float = field(metadata=numbers("(0, 1000]", 0.1))

    @property
    def needs_behaviour(self) -> bool:
        return True

    def optimal_margin(self, difference: float) -> float:
        """ΔR/β."""
        return difference / self.beta

    def loss(self, batch: Batch) -> Tensor:
        """(U,) one loss per prompt: the mean of (β (h_i − h_j) − (R_i − R_j))² over its pairs."""
        ratios, rewards = self.beta * batch.response_log_ratios, batch.rewards
        return batch.per_pair((ratios[:, None] - ratios - (rewards[:, None] - rewards)).square())
