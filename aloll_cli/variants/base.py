"""What a method is: what it takes a loss of, which weight a response carries, what it needs.

Methods that take one response at a time are −Σ_t sg[c_t] ln π(y_t), and only the detached coefficient c_t differs (Baheti et
al. 2024, "Leftover Lunch"). Losses sum over the tokens of a response; the trainer takes the mean over the units of an update.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, ClassVar

from aloll_cli.errors import UserError
from aloll_cli.schema import COUNT, name_of, numbers

if TYPE_CHECKING:
    from torch import Tensor

    from aloll_cli.arrays import FloatArray


CLIP = numbers("(0, 1)", 0.9)  # of a ratio, which then stays in [1 - clip, 1 + clip]; null leaves it alone


class Reduction(Enum):
    """How the losses of a response's tokens become one, in methods that take one response at a time."""

    sum = "their sum, the paper's: a long response counts for more"
    mean = "their mean, times the mean length of the update's responses: all count the same"


class Signal(Enum):
    """What a response is weighted by."""

    none = "every response weighs 1"
    reward = "R(x, y), which must not be negative"
    advantage = "A⁺ = max(R(x, y) − V(x), 0); A = R(x, y) − V(x) itself under clamp=false"

    @property
    def remedy(self) -> str:
        """What to type where no response has a positive weight."""
        return {
            Signal.none: "task.path=… with responses to learn from",
            Signal.reward: "Every reward is 0: choose another reward=…",
            Signal.advantage: "No reward exceeds its V(x): values=data, or values=constant values.value=null",
        }[self]


@dataclass(frozen=True)
class Batch:
    """A flat batch of B responses, padded to T tokens.

    Attributes:
        logps: (B, T) ln π_θ(y_t | x, y_<t), with gradient, 0 at padding.
        behaviour_logps: (B, T) the same under the behaviour policy (π_ref offline, π_old online), 0 at padding; None where
            the variant does not need it.
        weights: (B,) the variant's signal: 1, R, A⁺ or A.
        rewards: (B,) R(x, y).
        group: (B,) which of the batch's U units a response belongs to, 0 … U − 1; a unit's responses stand side by side.
        mask: (B, T) 1 at real tokens, 0 at padding.
    """

    logps: Tensor
    behaviour_logps: Tensor | None
    weights: Tensor
    rewards: Tensor
    group: Tensor
    mask: Tensor

    @property
    def log_ratio(self) -> Tensor:
        """(B, T) ln r_t = ln π_θ(y_t) − ln π_behaviour(y_t), detached."""
        assert self.behaviour_logps is not None
        return self.logps.detach() - self.behaviour_logps

    @property
    def preferred(self) -> Tensor:
        """(B, B) whether response i beats response j: of the same unit, with a higher reward."""
        return (self.group[:, None] == self.group) & (self.rewards[:, None] > self.rewards)

    def per_unit(self, values: Tensor) -> Tensor:
        """(B,) values of responses → (U,) their sums by unit."""
        return values.new_zeros(int(self.group.max()) + 1).index_add(0, self.group, values)


@dataclass(kw_only=True)
class Variant(ABC):
    """One method of learning from reward-labelled responses; what it takes one loss of, its unit, is told by its base class."""

    version: ClassVar[int] = 1  # to be increased when a change of the code changes results

    drift: ClassVar[tuple[str, str]] = ("ratio", "kl")  # what the distance to the behaviour policy is logged as

    @property
    def needs_behaviour(self) -> bool:
        """Whether the loss reads the behaviour policy's log-probs: then a ratio is taken, and dropout is off."""
        return False

    def check(self, reward_range: tuple[float, float], batch_size: int) -> None:  # noqa: B027  most have nothing to check
        """Raises UserError where the method cannot work with rewards in this range (lo, hi), or batches of so many units."""

    @abstractmethod
    def loss(self, batch: Batch) -> Tensor:
        """(U,) one loss a unit, to be minimised."""

    def metrics(self, batch: Batch) -> dict[str, Tensor]:
        """Figures of this method to log, one a response (B,) or a unit (U,), averaged over an update."""
        return {}


@dataclass(kw_only=True)
class Pointwise(Variant):
    """A method that takes logged responses one by one, drawn and weighted by its signal."""

    signal: ClassVar[Signal] = Signal.advantage

    def check(self, reward_range: tuple[float, float], batch_size: int) -> None:
        if self.signal is Signal.reward and reward_range[0] < 0:
            raise UserError(
                f"variant={name_of(self)} weights by the reward itself, which can be as low as {reward_range[0]}.",
                "Map it to [0, 1] (reward.transform=sigmoid), or use an advantage: variant=seq",
            )


@dataclass(kw_only=True)
class Groupwise(Variant):
    """A method that compares the logged responses to a prompt, which come by falling reward; no group is without a preference."""


@dataclass(kw_only=True)
class Online(Variant):
    """A method that learns from rollouts: responses that the policy, as it then is, draws at temperature 1 without a nucleus."""

    drift = ("ratio_old", "kl_old")

    rollout_size: int = field(metadata=COUNT)  # responses
    epochs: int = field(metadata=COUNT)  # passes over a rollout, before the next one is drawn

    @property
    def needs_behaviour(self) -> bool:
        return True

    def check(self, reward_range: tuple[float, float], batch_size: int) -> None:
        if self.rollout_size % batch_size:
            raise UserError(
                f"variant.rollout_size={self.rollout_size} is no multiple of batch_size={batch_size}.",
                f"variant.rollout_size={-(-self.rollout_size // batch_size) * batch_size}",
            )

    @abstractmethod
    def advantages(self, rewards: FloatArray, log_ratios: FloatArray, values: FloatArray) -> FloatArray:
        """(N,) what a rollout's responses are weighted by.

        Args:
            rewards: (N,) R.
            log_ratios: (N,) ln π_old(y) − ln π_ref(y), summed over tokens.
            values: (N,) V_ref of their prompts.
        """


def clipped(ratio: Tensor, clip: float | None) -> Tensor:
    """clip_ε(z) = min(max(z, 1 − ε), 1 + ε) of a detached weight; None leaves it alone. Any shape."""
    return ratio if clip is None else ratio.clamp(1 - clip, 1 + clip)


def clip_fraction(ratio: Tensor, clip: float | None, mask: Tensor) -> Tensor:
    """(B,) the share of real tokens whose ratio clipping changes; ratio and mask are (B, T)."""
    return ((clipped(ratio, clip) != ratio) * mask).sum(dim=-1) / mask.sum(dim=-1)
