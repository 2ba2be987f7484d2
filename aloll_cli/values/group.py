"""The mean reward of the other logged responses to the same prompt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from aloll_cli.errors import UserError
from aloll_cli.values.base import Estimate, Evidence, LoggedRewards, Values, without_rounding

if TYPE_CHECKING:
    from aloll_cli.arrays import FloatArray, IntArray


@dataclass(frozen=True)
class _LeaveOneOut(Estimate):
    fallback: float

    def of(self, split: str, logged: LoggedRewards, rows: slice) -> FloatArray:
        if logged.rewards is None:
            return np.full(rows.stop - rows.start, self.fallback)
        sums = np.bincount(logged.groups, weights=logged.rewards)[logged.groups]
        counts = np.bincount(logged.groups)[logged.groups]
        others = np.maximum(counts - 1, 1)
        found = np.where(counts > 1, (sums - logged.rewards) / others, self.fallback)
        return without_rounding(found, logged.rewards)[rows]


@dataclass(kw_only=True)
class Group(Values):
    """The mean reward of the other logged responses to the prompt; without any, the mean over all training responses."""

    version: ClassVar[int] = 2  # validation and test prompts by their own responses; no advantage by rounding
    reads_each_split: ClassVar[bool] = True

    def check_data(self, responses: Callable[[str], IntArray]) -> None:
        if (responses("train") == 1).all():
            raise UserError("values=group needs prompts with several responses, but every prompt has only one.", "values=data")

    def estimate(self, evidence: Evidence) -> Estimate:
        assert evidence.train.rewards is not None
        single = float(np.mean(np.bincount(evidence.train.groups) == 1))
        evidence.say(
            f"  {single:.1%} of the training prompts have a single response; their value is the mean reward over all responses"
        )
        return _LeaveOneOut(float(evidence.train.rewards.mean()))
