"""NCA: good responses become more likely, and not only more likely than others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aloll_cli.variants.base import Batch
from aloll_cli.variants.infonca import Infonca

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(kw_only=True)
class Nca(Infonca):
    """NCA (Chen et al. 2024, arXiv 2402.05369) on all K logged responses to a prompt.

    The loss is −Σ_i [softmax(R/α)_i ln σ(β h_i) + (1/K) ln σ(−β h_i)] with h = ln π − ln π_ref. Each response is told from
    one of π_ref by itself, so that absolute likelihoods count.
    """

    def loss(self, batch: Batch) -> Tensor:
        """(U,) one loss per prompt: −Σ_i [softmax(R/α)_i ln σ(β h_i) + (1/K) ln σ(−β h_i)]."""
        from torch.nn.functional import logsigmoid

        scores = self.beta * batch.response_log_ratios
        sizes = batch.per_unit(scores.new_ones(len(scores)))[batch.group]
        return -batch.per_unit(self._shares(batch) * logsigmoid(scores) + logsigmoid(-scores) / sizes)
