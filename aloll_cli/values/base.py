"""The contract of estimators of V(x) = E_{y ~ π_ref} R(x, y), the baseline of the advantage."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from aloll_cli.models.decoding import Generation
from aloll_cli.tasks.base import SPLITS

if TYPE_CHECKING:
    from torch import Tensor

    from aloll_cli.arrays import FloatArray, IntArray

    Say = Callable[[str], None]
    States = Callable[[str, IntArray], list[Tensor]]
    Texts = Callable[[str, IntArray], list[str]]


ROUNDING = 1e-12  # relative to the largest reward


@dataclass(frozen=True)
class LoggedRewards:
    """The logged responses of one split.

    Attributes:
        rewards: (N,) their rewards, or None if the split has not been scored.
        groups: (N,) index of the prompt of each, out of G.
    """

    rewards: FloatArray | None
    groups: IntArray


@dataclass(frozen=True)
class Evidence:
    """The data that values can be estimated from.

    Attributes:
        range: (lo, hi) of the reward.
        train: the logged training responses with their rewards.
        sample_rewards: (M, k) rewards of k samples of π_ref for each of a split's M prompts, if the method needs them.
        states: (split, indices of its unique prompts) → π_ref's last-layer hidden states of those prompts, each (P_i, H): of the
            prompt as the model reads it, cut to the limit. Under ``pools_states`` (2, H), their mean and the last one.
        texts: (split, indices of its unique prompts) → those prompts as plain text, whole.
        say: logs a line.
        warn: logs a warning.
    """

    range: tuple[float, float]
    train: LoggedRewards
    sample_rewards: FloatArray | None
    states: States
    texts: Texts
    say: Say
    warn: Say


@dataclass(kw_only=True)
class Values(ABC):
    """A method of estimating V(x)."""

    version: ClassVar[int] = 1  # to be increased when a change of the code changes results
    splits: ClassVar[tuple[str, ...]] = SPLITS  # that it estimates V for; a reward that scores text needs the train split only
    reads_each_split: ClassVar[bool] = False  # whether V of a split comes from the rewards of that split's own logged responses

    @property
    def sampled_on(self) -> str | None:
        """The split whose prompts need scored samples of π_ref, or None."""
        return None

    def sampling(self, generation: Generation) -> Generation:
        """How these samples are generated; ``generation`` is the decoding used in evaluation."""
        return generation

    @property
    def fitted_on(self) -> str | None:
        """The split whose prompts it is fitted on, or None."""
        return None

    @property
    def reads_states(self) -> bool:
        """Whether it is fitted on π_ref's states of those prompts; they are then computed once, and kept until it is done."""
        return self.fitted_on is not None

    @property
    def pools_states(self) -> bool:
        """Whether it reads two states of each prompt, the mean over its positions and the last one, instead of all."""
        return False

    @property
    def is_given(self) -> bool:
        """Whether V(x) is one number that the user gives, whatever the rewards."""
        return False

    @property
    def is_soft(self) -> bool:
        """Whether V(x) is β ln E e^{R/β}, the value of the optimal policy under a KL penalty β, and not a mean."""
        return False

    def check(self, bounds: tuple[float, float]) -> None:  # noqa: B027  most have nothing to check
        """Raises UserError if no reward within these bounds (lo, hi) could exceed the values."""

    def check_data(self, responses: Callable[[str], IntArray]) -> None:  # noqa: B027
        """Raises UserError if V(x) cannot be estimated from the data, whatever the rewards.

        Args:
            responses: split → (G,) the number of logged responses to each of its prompts.
        """

    @abstractmethod
    def estimate(self, evidence: Evidence) -> Estimate:
        """Estimate V(x), fitting a head if the method has one."""


def without_rounding(values: FloatArray, rewards: FloatArray | None) -> FloatArray:
    """(N,) values, with those that differ from (N,) rewards by rounding alone replaced by them, so that A = R − V is 0 there.

    Means of equal rewards are often not exactly these: an advantage of 10⁻¹⁶ would count as positive or negative.
    """
    if rewards is None:
        return values
    return np.where(np.abs(values - rewards) <= ROUNDING * np.abs(rewards).max(), rewards, values)


class Estimate(ABC):
    """An estimate of V(x)."""

    @abstractmethod
    def of(self, split: str, logged: LoggedRewards, rows: slice) -> FloatArray:
        """V of the prompts of some of a split's logged responses, one per response."""
