"""The same value for every prompt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from aloll_cli.errors import UserError
from aloll_cli.values.base import Estimate, Evidence, LoggedRewards, Values

if TYPE_CHECKING:
    from aloll_cli.arrays import FloatArray


@dataclass(frozen=True)
class _Constant(Estimate):
    value: float

    def of(self, split: str, logged: LoggedRewards, rows: slice) -> FloatArray:
        return np.full(rows.stop - rows.start, self.value)


@dataclass(kw_only=True)
class Constant(Values):
    """The same value for every prompt: the one given, or the mean reward of the logged training responses."""

    value: float | None

    @property
    def is_given(self) -> bool:
        return self.value is not None

    def check(self, bounds: tuple[float, float]) -> None:
        if self.value is not None and self.value >= bounds[1]:
            raise UserError(
                f"values.value={self.value}: no reward is above {bounds[1]}, so no advantage would be positive.",
                "Set values.value=null to use the mean training reward.",
            )

    def estimate(self, evidence: Evidence) -> Estimate:
        if self.value is not None:
            return _Constant(self.value)
        assert evidence.train.rewards is not None
        return _Constant(float(evidence.train.rewards.mean()))
