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
    """DPO with the reference's difference taken as 0: h = β ln π, so that a likelier, or shorter, response starts ahead."""

    @property
    def needs_behaviour(self) -> bool:
        return False

    def _log_ratio(self, batch: Batch) -> Tensor:
        return batch.logps
