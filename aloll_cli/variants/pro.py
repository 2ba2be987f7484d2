"""Preference ranking optimization: each response is compared with all responses of lower reward."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, ClassVar

from aloll_cli.errors import UserError
from aloll_cli.schema import numbers
from aloll_cli.variants.base import Batch, Groupwise

if TYPE_CHECKING:
    from torch import Tensor

EDGE = 1e-6  # rewards are clamped to [EDGE, 1 − EDGE] before the logit


class Scale(Enum):
    """The scale on which differences of rewards are taken."""

    logit = "ln(R / (1 − R)), the reward before its sigmoid, as in the paper; for rewards in [0, 1]"
    given = "R itself"


@dataclass(kw_only=True)
class Pro(Groupwise):
    """PRO (Song et al. 2024, arXiv 2306.17492): each response of a ranking is preferred to all below it, by a softmax.

    The loss of responses y_1 … y_n in descending order of reward, with s_k the MEAN token log-prob of y_k, is

    Σ_{k<n} { ln(e^{s_k T_k} + Σ_{j>k} e^{s_j τ_jk}) − s_k T_k } − sft_weight · (n − 1)² · ln π(y_1),

    where τ_jk = R_k − R_j and T_k = max_{j>k} τ_jk: small differences of rewards give soft comparisons. ln π(y_1), the
    log-likelihood of the best response, is a sum over its tokens. Responses of equal reward, or of the same tokens, are
    not compared.
    """

    version: ClassVar[int] = 2  # responses of the same tokens are not compared

    sft_weight: float = field(metadata=numbers("[0, 1000]", 0.05))
    scale: Scale

    def check(self, reward_range: tuple[float, float], batch_size: int) -> None:
        if self.scale is Scale.logit and not 0 <= reward_range[0] < reward_range[1] <= 1:
            raise UserError(
                f"variant.scale=logit expected rewards in [0, 1], got [{reward_range[0]:g}, {reward_range[1]:g}].",
                "variant.scale=given",
            )

    def loss(self, batch: Batch) -> Tensor:
        """(U,) one loss per prompt: the equation above."""
        import torch

        rewards = batch.rewards if self.scale is Scale.given else batch.rewards.logit(EDGE)
        apart = (rewards[:, None] - rewards) * batch.preferred  # (B, B): τ_jk at [k, j], 0 where k is not preferred to j
        greatest = apart.amax(dim=-1)  # (B,): T_k
        mean_logps = batch.logps.sum(dim=-1) / batch.mask.sum(dim=-1)
        own = (mean_logps * greatest)[:, None]
        others = (mean_logps * apart).masked_fill(~batch.preferred, -torch.inf)
        # a response preferred to none, such as the last one, is alone in its sum: its loss is ln e^{s T} − s T = 0
        ranking = torch.cat([own, others], dim=-1).logsumexp(dim=-1) - own[:, 0]
        return batch.per_unit(ranking) + self.sft_weight * batch.per_unit(_sft_weights(batch) * -batch.logps.sum(dim=-1))

    def metrics(self, batch: Batch) -> dict[str, Tensor]:
        """(U,) the share of a prompt's pairs that the mean log-probs rank in the right order."""
        mean_logps = batch.logps.detach().sum(dim=-1) / batch.mask.sum(dim=-1)
        in_order = (mean_logps[:, None] > mean_logps) & batch.preferred
        return {"pair_accuracy": batch.per_unit(in_order.sum(dim=-1).float()) / batch.per_unit(batch.preferred.sum(dim=-1))}


def _sft_weights(batch: Batch) -> Tensor:
    """(B,) (n − 1)² for the best of a prompt's n responses, which is its first one; 0 for the others."""
    same = batch.group[:, None] == batch.group
    is_first = same.cumsum(dim=-1).diagonal() == 1
    return is_first * (same.sum(dim=-1) - 1.0) ** 2
