"""Direct preference optimisation: the better of two responses gains likelihood on the worse, measured from the reference."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aloll_cli.schema import numbers
from aloll_cli.variants.base import Batch, Groupwise

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(kw_only=True)
class Dpo(Groupwise):
    """DPO (Rafailov et al. 2023, equation 7) on every pair of a group whose rewards differ.

    With h = β Σ_t ln r_t, which is β (ln π − ln π_ref) of a whole response, a pair's loss is −ln σ(h_w − h_l). A group of
    more than two has the mean over its pairs; how far rewards lie apart does not count, only their order.
    """

    beta: float = field(metadata=numbers("(0, 1000]", 0.1))

    @property
    def needs_behaviour(self) -> bool:
        return True

    def loss(self, batch: Batch) -> Tensor:
        """(U,) −mean ln σ(h_w − h_l) over the pairs of each group."""
        from torch.nn.functional import logsigmoid

        losses = -logsigmoid(self._margins(batch)) * batch.preferred
        return batch.per_unit(losses.sum(dim=-1)) / _pairs(batch)

    def metrics(self, batch: Batch) -> dict[str, Tensor]:
        """The share of pairs that h puts in order, and the mean margin h_w − h_l, by group."""
        margins = self._margins(batch).detach()
        in_order = ((margins > 0) & batch.preferred).sum(dim=-1).float()
        return {
            "pair_accuracy": batch.per_unit(in_order) / _pairs(batch),
            "margin": batch.per_unit((margins * batch.preferred).sum(dim=-1)) / _pairs(batch),
        }

    def _margins(self, batch: Batch) -> Tensor:
        """(B, B) h_i − h_j."""
        implicit = self.beta * self._log_ratio(batch).sum(dim=-1)
        return implicit[:, None] - implicit

    def _log_ratio(self, batch: Batch) -> Tensor:
        """(B, T) ln r_t, with gradient."""
        assert batch.behaviour_logps is not None
        return batch.logps - batch.behaviour_logps


def _pairs(batch: Batch) -> Tensor:
    """(U,) how many pairs each group has; no group without any is drawn."""
    return batch.per_unit(batch.preferred.sum(dim=-1))
