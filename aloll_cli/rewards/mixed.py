"""The weighted sum of several named rewards (parts), each transformed first.

``aloll run reward=mixed reward.parts.mood=vader reward.parts.length=length reward.parts.length.transform=zscore``
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from aloll_cli.errors import UserError
from aloll_cli.rewards.base import COLUMNS, Reward, Scorer
from aloll_cli.schema import numbers

if TYPE_CHECKING:
    from aloll_cli.arrays import FloatArray

TAKEN = (*COLUMNS, "mixed")  # what stands beside the parts in tables and figures


class Transform(Enum):
    """How a part's scores are transformed before they are weighted."""

    none = "unchanged"
    sigmoid = "sigmoid of the scores"
    clip = "clipped to [lo, hi]"
    minmax = "the lowest score of the training responses becomes 0, the highest 1; others are clipped to [0, 1]"
    zscore = "standard deviations from the mean of the training responses; unbounded"

    @property
    def is_fitted(self) -> bool:
        """Whether it needs the scores of the training responses."""
        return self in (Transform.minmax, Transform.zscore)


@dataclass(frozen=True)
class Scale:
    """Statistics of a part's scores on training responses."""

    least: float
    greatest: float
    mean: float
    deviation: float

    @classmethod
    def of(cls, scores: FloatArray) -> Scale:
        """From (N,) scores."""
        return cls(float(scores.min()), float(scores.max()), float(scores.mean()), float(scores.std()))


@dataclass(kw_only=True)
class Part:
    """One of the rewards in a weighted sum.

    Users name the parts, so no YAML file can set their defaults: the defaults are here.
    """

    reward: Reward
    weight: float = 1.0  # in the sum; 0: reported only
    transform: Transform = Transform.none
    lo: float = field(default=0.0, metadata=numbers("(-inf, inf)", 0.0))  # for transform=clip
    hi: float = field(default=1.0, metadata=numbers("(-inf, inf)", 1.0))

    def __post_init__(self) -> None:
        if not self.lo < self.hi:
            raise UserError(
                f"lo={self.lo} of a part must be less than its hi={self.hi}.", "reward.parts.NAME.lo=0 reward.parts.NAME.hi=1"
            )

    @property
    def range(self) -> tuple[float, float]:
        """(lo, hi) of the transformed score."""
        if self.transform.is_fitted:
            return (0.0, 1.0) if self.transform is Transform.minmax else (-np.inf, np.inf)
        lo, hi = self.transformed(np.array(self.reward.range), None)  # all transforms are monotonic
        return float(lo), float(hi)

    def transformed(self, scores: FloatArray, scale: Scale | None) -> FloatArray:
        """(N,) scores → (N,) transformed scores; scale: statistics of training scores, for fitted transforms only."""
        from scipy.special import expit

        if self.transform is Transform.sigmoid:
            return np.asarray(expit(scores))
        if self.transform is Transform.clip:
            return np.clip(scores, self.lo, self.hi)
        if not self.transform.is_fitted:
            return scores
        assert scale is not None
        if self.transform is Transform.zscore:
            return (scores - scale.mean) / scale.deviation
        return np.clip((scores - scale.least) / (scale.greatest - scale.least), 0, 1)


@dataclass(kw_only=True)
class Mixed(Reward):
    """The weighted sum of several rewards."""

    parts: dict[str, Part]

    def __post_init__(self) -> None:
        if not self.parts:
            raise UserError("reward=mixed has no parts.", "reward.parts.mood=vader reward.parts.length=length")
        scales = [f"{name}_scale" for name, part in self.parts.items() if part.transform.is_fitted]
        for name, part in self.parts.items():
            if not re.fullmatch(r"[A-Za-z]\w*", name) or name in (*TAKEN, *scales):
                hint = f"Use letters, digits and _; not {', '.join((*TAKEN, *scales))}."
                raise UserError(f'reward.parts: "{name}" is not a valid name.', hint)
            if isinstance(part.reward, Mixed):
                raise UserError(f"reward.parts.{name} is itself a mixed reward.", "Add its parts here, with their weights.")

    @property
    def range(self) -> tuple[float, float]:
        ends = [sorted(end * part.weight for end in part.range) for part in self.parts.values() if part.weight]
        return sum(lo for lo, _ in ends), sum(hi for _, hi in ends)

    @property
    def reads_edges(self) -> bool:
        return any(part.reward.reads_edges for part in self.parts.values())

    @property
    def scores_text(self) -> bool:
        return all(part.reward.scores_text for part in self.parts.values())

    @property
    def downloads(self) -> bool:
        return any(part.reward.downloads for part in self.parts.values())

    def scorer(self, state: Path | None) -> Scorer:
        raise NotImplementedError("parts are loaded one after the other (artifacts/mixed_rewards.py)")

    def held_out(self) -> Reward | None:
        """The same sum with each part replaced by its held-out counterpart; None if no part has one."""
        counterparts = {name: part.reward.held_out() for name, part in self.parts.items()}
        if not any(counterparts.values()):
            return None
        return Mixed(parts={n: replace(p, reward=counterparts[n] or p.reward) for n, p in self.parts.items()})

    def total(self, scores: Mapping[str, FloatArray], scales: Mapping[str, Scale]) -> FloatArray:
        """(N,) the weighted sum of the parts' transformed scores.

        Args:
            scores: (N,) scores of each part, before its transform.
            scales: statistics for the parts with a fitted transform.
        """
        # sorted: the order of the parts is not in the recipe, so it must not change the rounding
        terms = [
            self.parts[name].weight * self.parts[name].transformed(scores[name], scales.get(name)) for name in sorted(scores)
        ]
        total: FloatArray = np.clip(np.sum(terms, axis=0), *self.range)
        return total
