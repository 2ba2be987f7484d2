"""InfoNCA: the policy's preferences among the responses to a prompt are those of the rewards."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from aloll_cli.schema import numbers
from aloll_cli.variants.base import Batch, Groupwise

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(kw_only=True)
class Infonca(Groupwise):
    """InfoNCA (Chen et al. 2024, arXiv 2402.05369) on all logged responses to a prompt.

    The loss is the cross-entropy −Σ_i softmax(R/α)_i ln softmax(β h)_i with h = ln π − ln π_ref. With two responses and α → 0 it
    is that of DPO. Only differences of h within a prompt count, so that even the best response may become less likely: see NCA.
    """

    version: ClassVar[int] = 2  # prompts whose responses are all the same tokens are left out

    alpha: float = field(metadata=numbers("(0, 1000]", 0.1))
    beta: float = field(metadata=numbers("(0, 1000]", 0.1))

    @property
    def needs_behaviour(self) -> bool:
        return True

    def loss(self, batch: Batch) -> Tensor:
        """(U,) one loss per prompt: −Σ_i softmax(R/α)_i ln softmax(β h)_i."""
        own = batch.log_softmax(self.beta * batch.response_log_ratios)
        return -batch.per_unit(self._shares(batch) * own)

    def optimal_margin(self, difference: float) -> float:
        """ΔR/(α β)."""
        return difference / (self.alpha * self.beta)

    def _shares(self, batch: Batch) -> Tensor:
        """(B,) softmax(R/α) over the responses to each prompt."""
        return batch.log_softmax(batch.rewards / self.alpha).exp()
