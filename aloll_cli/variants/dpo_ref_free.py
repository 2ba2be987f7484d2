"""DPO without a reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aloll_cli.variants.base import Batch
from aloll_cli.variants.dpo import Dpo

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(kw_only=True)
class DpoRefFree(Dpo):
    """DPO (Rafailov et al. 2023, arXiv 2305.18290) with the reference's log-probs set to 0: h = β ln π.

    This favours likely or short responses.
    """

    @property
    def needs_behaviour(self) -> bool:
        return False

    def _scores(self, batch: Batch) -> Tensor:
        return batch.logps.sum(dim=-1)
