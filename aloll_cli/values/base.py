"""Ways of estimating V(x) = E_{y ~ π_ref} R(x, y), the baseline of the advantage."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from aloll_cli.models.decoding import Generation
from aloll_cli.tasks.base import SPLITS

if TYPE_CHECKING:
    from torch import Tensor

    from aloll_cli.arrays import FloatArray, IntArray

    Say = Callable[[str], None]
    States = Callable[[str, IntArray], list[Tensor]]


@dataclass(frozen=True)
class LoggedRewards:
    """The logged responses of one split.

    Attributes:
        rewards: (N,) their rewards, or None where the split has not been scored.
        groups: (N,) which of G prompts each answers.
    """

    rewards: FloatArray | None
    groups: IntArray


@dataclass(frozen=True)
class Evidence:
    """What values may be estimated from.

    Attributes:
        range: (lo, hi) of the reward.
        train: the logged training responses with their rewards.
        sample_rewards: (M, k) rewards of π_ref's k own answers to each of a split's M prompts, where the method asked for them.
        states: (split, which of its distinct prompts) → π_ref's last-layer states of those.
        say: tells the user a line.
    """

    range: tuple[float, float]
    train: LoggedRewards
    sample_rewards: FloatArray | None
    states: States
    say: Say


@dataclass(kw_only=True)
class Values(ABC):
    """One way of estimating V(x)."""

    version: ClassVar[int] = 1  # raised where its code gives other results: what was built by the old code is not used then
    splits: ClassVar[tuple[str, ...]] = SPLITS  # those it knows values of; a reward that scores text asks for training's alone

    @property
    def sampled_on(self) -> str | None:
        """The split whose prompts π_ref must have answered, and its answers been scored, or None."""
        return None

    def sampling(self, generation: Generation) -> Generation:
        """How π_ref answers these, where policies are judged by answers drawn by ``generation``."""
        return generation

    @property
    def fitted_on(self) -> str | None:
        """The split whose prompts' states something is fitted on, or None."""
        return None

    def check(self, bounds: tuple[float, float]) -> None:  # noqa: B027  most have nothing to check
        """Raises UserError where no reward within these bounds (lo, hi) could exceed the values."""

    def check_prompts(self, count: int) -> None:  # noqa: B027
        """Raises UserError where so many prompts are too few to fit anything on."""

    @abstractmethod
    def estimate(self, evidence: Evidence) -> Estimate:
        """Fit whatever is fitted."""


class Estimate(ABC):
    """Fitted values."""

    @abstractmethod
    def of(self, split: str, logged: LoggedRewards, rows: slice) -> FloatArray:
        """V for some of a split's logged responses."""
