"""Identity preference optimization: preferences move the log-ratio by a fixed margin."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from aloll_cli.schema import numbers
from aloll_cli.variants.base import Batch, Groupwise

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(kw_only=True)
class Ipo(Groupwise):
    """IPO (Azar et al. 2024, arXiv 2310.12036, equation 17) on all pairs of responses with different rewards.

    The loss of a pair is (h_w − h_l − 1/(2τ))² with h = ln π − ln π_ref: unlike in DPO, the margin that is aimed at is
    finite. With ``per_token`` h is the mean over the tokens of a response, as in TRL, and the margin is per token. The loss
    of a prompt is the mean over its pairs.
    """

    version: ClassVar[int] = 2  # responses of the same tokens are no pair

    tau: float = field(metadata=numbers("(0, 1000]", 0.1))
    per_token: bool

    @property
    def needs_behaviour(self) -> bool:
        return True

    def loss(self, batch: Batch) -> Tensor:
        """(U,) one loss per prompt: the mean of (h_w − h_l − 1/(2τ))² over its pairs."""
        return batch.per_pair((self._margins(batch) - 1 / (2 * self.tau)).square())

    def optimal_margin(self, difference: float) -> float | None:
        """1/(2τ), whatever the rewards; with ``per_token`` it depends on the responses' lengths."""
        return None if self.per_token else 1 / (2 * self.tau)

    def metrics(self, batch: Batch) -> dict[str, Tensor]:
        """(U,) the share of a prompt's pairs with h_w > h_l, and their mean margin h_w − h_l."""
        margins = self._margins(batch).detach()
        return {"pair_accuracy": batch.per_pair((margins > 0).float()), "margin": batch.per_pair(margins)}

    def _margins(self, batch: Batch) -> Tensor:
        """(B, B) margins h_i − h_j, with gradient."""
        ratios = batch.response_log_ratios
        ratios = ratios / batch.mask.sum(dim=-1) if self.per_token else ratios
        return ratios[:, None] - ratios
