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

        losses = -logsigmoid(self._margins(batch)) * batch.preferred
        return batch.per_unit(losses.sum(dim=-1)) / _pairs(batch)

    def metrics(self, batch: Batch) -> dict[str, Tensor]:
        """(U,) the share of a prompt's pairs with h_w > h_l, and their mean margin h_w − h_l."""
        margins = self._margins(batch).detach()
        in_order = ((margins > 0) & batch.preferred).sum(dim=-1).float()
        return {
            "pair_accuracy": batch.per_unit(in_order) / _pairs(batch),
            "margin": batch.per_unit((margins * batch.preferred).sum(dim=-1)) / _pairs(batch),
        }

    def _margins(self, batch: Batch) -> Tensor:
        """(B, B) margins h_i − h_j, with gradient."""
        implicit = self.beta * self._log_ratio(batch).sum(dim=-1)
        return implicit[:, None] - implicit

    def _log_ratio(self, batch: Batch) -> Tensor:
        """(B, T) ln r_t, with gradient."""
        assert batch.behaviour_logps is not None
        return batch.logps - batch.behaviour_logps


def _pairs(batch: Batch) -> Tensor:
    """(U,) the number of pairs of each prompt; at least 1, as others are not sampled."""
    return batch.per_unit(batch.preferred.sum(dim=-1))
