"""Direct preference optimization on pairs of logged responses."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from aloll_cli.schema import numbers
from aloll_cli.variants.base import Batch, Groupwise

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(kw_only=True)
class Dpo(Groupwise):
    """DPO (Rafailov et al. 2023, arXiv 2305.18290, equation 7) on all pairs of responses with different rewards and tokens.

    The implicit reward of a response is h = β Σ_t ln r_t = β (ln π − ln π_ref); the loss of a pair is −ln σ(h_w − h_l). The
    loss of a prompt is the mean over its pairs. Only the order of the rewards counts, not their difference.
    """

    version: ClassVar[int] = 2  # responses of the same tokens are no pair

    beta: float = field(metadata=numbers("(0, 1000]", 0.1))

    @property
    def needs_behaviour(self) -> bool:
        return True

    def loss(self, batch: Batch) -> Tensor:
        """(U,) one loss per prompt: the mean of −ln σ(h_w − h_l) over its pairs."""
        from torch.nn.functional import logsigmoid

        return batch.per_pair(-logsigmoid(self._margins(batch)))

    def metrics(self, batch: Batch) -> dict[str, Tensor]:
        """(U,) the share of a prompt's pairs with h_w > h_l, and their mean margin h_w − h_l."""
        margins = self._margins(batch).detach()
        return {"pair_accuracy": batch.per_pair((margins > 0).float()), "margin": batch.per_pair(margins)}

    def _margins(self, batch: Batch) -> Tensor:
        """(B, B) margins h_i − h_j, with gradient."""
        implicit = self.beta * self._scores(batch)
        return implicit[:, None] - implicit

    def _scores(self, batch: Batch) -> Tensor:
        """(B,) Σ_t ln r_t, with gradient."""
        return batch.response_log_ratios
