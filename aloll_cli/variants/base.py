"""What a method is: which weight a response carries, what it needs, and one loss a response.

Every method of this family is −Σ_t sg[c_t] ln π(y_t): only the detached coefficient c_t differs (Baheti et al. 2024,
"Leftover Lunch"). Losses sum over the tokens of a response; the trainer takes the mean over the responses of an update.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, ClassVar

from aloll_cli.config import numbers

if TYPE_CHECKING:
    from torch import Tensor


CLIP = numbers("(0, 1)", 0.9)  # of a ratio, which then stays in [1 - clip, 1 + clip]; null leaves it alone


class Signal(Enum):
    """What a response is weighted by."""

    none = "every response weighs 1"
    reward = "R(x, y), which must not be negative"
    advantage = "A⁺ = max(R(x, y) − V(x), 0)"

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
        behaviour_logps: (B, T) the same under the behaviour policy (π_ref offline), 0 at padding; None where the
            variant does not need it.
        weights: (B,) the variant's signal: 1, R or A⁺.
        rewards: (B,) R(x, y).
        group: (B,) which prompt a response belongs to.
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
        """(B, T) ln r_t = ln π_θ(y_t) − ln π_ref(y_t), detached."""
        assert self.behaviour_logps is not None
        return self.logps.detach() - self.behaviour_logps


@dataclass(kw_only=True)
class Variant(ABC):
    """One method of learning from reward-labelled responses."""

    unit: ClassVar[str] = "response"
    signal: ClassVar[Signal] = Signal.advantage

    @property
    def needs_reference(self) -> bool:
        """Whether the loss reads π_ref's log-probs: then a ratio is taken, and dropout is off."""
        return False

    @abstractmethod
    def loss(self, batch: Batch) -> Tensor:
        """(B,) one loss a response, to be minimised."""

    def metrics(self, batch: Batch) -> dict[str, Tensor]:
        """(B,) figures of this method to log, averaged over the responses of an update."""
        return {}


def clipped(ratio: Tensor, clip: float | None) -> Tensor:
    """clip_ε(z) = min(max(z, 1 − ε), 1 + ε) of a detached weight; None leaves it alone. Any shape."""
    return ratio if clip is None else ratio.clamp(1 - clip, 1 + clip)


def clip_fraction(ratio: Tensor, clip: float | None, mask: Tensor) -> Tensor:
    """(B,) the share of real tokens whose ratio clipping changes; ratio and mask are (B, T)."""
    return ((clipped(ratio, clip) != ratio) * mask).sum(dim=-1) / mask.sum(dim=-1)
