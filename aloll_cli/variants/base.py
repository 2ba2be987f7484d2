"""The base classes of methods: the unit that a loss is computed on, the weight of a response, and the requirements.

The loss of methods that learn from single responses is −Σ_t sg[c_t] ln π(y_t), where sg stops the gradient; they differ in the
coefficient c_t only (Baheti et al. 2024, "Leftover Lunch", arXiv 2305.14718). Losses sum over the tokens of a response; the
trainer takes the mean over the units of a step.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, ClassVar

from aloll_cli.errors import UserError
from aloll_cli.schema import COUNT, name_of, numbers
from aloll_cli.variants.batch import Batch as Batch  # part of the contract

if TYPE_CHECKING:
    from torch import Tensor

    from aloll_cli.arrays import FloatArray


CLIP = numbers("(0, 1)", 0.9)  # ratios are clipped to [1 - clip, 1 + clip]; null: no clipping


class Reduction(Enum):
    """How token losses are reduced to one loss per response, in methods that learn from single responses."""

    sum = "their sum, as in the paper: long responses count more"
    mean = "their mean, times the mean length of the step's responses: all responses count the same"


class Signal(Enum):
    """The weight of a response."""

    none = "1 for every response"
    reward = "R(x, y), which must not be negative"
    advantage = "A⁺ = max(R(x, y) − V(x), 0); A = R(x, y) − V(x) itself under clamp=false"

    @property
    def remedy(self) -> str:
        """What to type if no response has a positive weight."""
        return {
            Signal.none: "task.path=FOLDER with responses to train on",
            Signal.reward: "All rewards are 0: choose another reward, such as reward=vader",
            Signal.advantage: "No reward is above its V(x): values=data, or values=constant values.value=null",
        }[self]


@dataclass(kw_only=True)
class Variant(ABC):
    """The method: the loss by which the policy learns from responses with rewards."""

    version: ClassVar[int] = 1  # to be increased when a change of the code changes results
    unit: ClassVar[str] = ""  # what one loss is of, in the words of --help
    drift: ClassVar[tuple[str, str]] = ("ratio", "kl")  # names in the log of the distance to the behaviour policy

    @property
    def needs_behaviour(self) -> bool:
        """Whether the loss uses importance ratios to the behaviour policy; dropout is then off."""
        return False

    @property
    def needs_values(self) -> bool:
        """Whether it uses V(x)."""
        return False

    def check(self, reward_range: tuple[float, float], batch_size: int) -> None:  # noqa: B027  most methods check nothing
        """Raises UserError if the method cannot use rewards in this range (lo, hi), or this batch size (in units)."""

    @abstractmethod
    def loss(self, batch: Batch) -> Tensor:
        """(U,) one loss per unit, to be minimized."""

    def metrics(self, batch: Batch) -> dict[str, Tensor]:
        """Metrics to log: (B,) one value per response, or (U,) per unit; averaged over the step."""
        return {}


@dataclass(kw_only=True)
class Pointwise(Variant):
    """A method that learns from single logged responses, sampled and weighted by its signal."""

    unit = "response"
    signal: ClassVar[Signal] = Signal.advantage

    @property
    def needs_values(self) -> bool:
        return self.signal is Signal.advantage

    def check(self, reward_range: tuple[float, float], batch_size: int) -> None:
        if self.signal is Signal.reward and reward_range[0] < 0:
            raise UserError(
                f"variant={name_of(self)} uses the reward as weight, but rewards can be as low as {reward_range[0]}.",
                "Map rewards to [0, 1] (reward.transform=sigmoid), or weight by the advantage: variant=seq",
            )


@dataclass(frozen=True)
class Logged:
    """What is known of N logged training responses before training.

    Attributes:
        rewards: (N,) rewards R(x, y).
        values: (N,) V(x) of their prompts, or None if the method does not need them.
        reference_rewards: (N, k) rewards of k samples of π_ref for their prompts, or None if the method does not need them.
    """

    rewards: FloatArray
    values: FloatArray | None
    reference_rewards: FloatArray | None


@dataclass(kw_only=True)
class Regression(Variant):
    """A method that learns from every logged response, each drawn equally often, with a target of either sign."""

    unit = "response"

    @property
    def needs_behaviour(self) -> bool:
        return True

    @property
    def needs_values(self) -> bool:
        return True

    @property
    def needs_samples(self) -> bool:
        """Whether it uses rewards of samples of π_ref for each training prompt (``values=monte_carlo``)."""
        return False

    @property
    def needs_mismatched(self) -> bool:
        """Whether it uses ``batch.mismatched_log_ratios``: one more forward pass per step."""
        return False

    @property
    def learns_values(self) -> bool:
        """Whether V(x) can be learned together with the policy (``values=joint``), by :meth:`value_errors`."""
        return False

    def value_errors(self, batch: Batch) -> Tensor:
        """(B,) how much too large V(x) is for each response, detached, in the unit of ``batch.weights``."""
        raise NotImplementedError

    def targets(self, logged: Logged) -> FloatArray:
        """(N,) ``batch.weights`` of the training responses: the advantages A = R − V(x), unless the method changes them."""
        assert logged.values is not None
        advantages: FloatArray = logged.rewards - logged.values
        return advantages

    def doubt(self, logged: Logged) -> str | None:
        """What the user should know about how these data suit the method, as a warning; None: nothing."""
        return None

    @property
    def soft_values(self) -> bool:
        """Whether V(x) is β ln E e^{R/β} in its source, and not a mean: with one, the log warns."""
        return False

    def soft_temperature(self, rewards: FloatArray) -> float | None:
        """The temperature β of V = β ln E e^{R/β} at which the loss has the optimum of its source, given all (N,) rewards.

        None: any. Under ``values=soft`` another one is refused.
        """
        return None

    @property
    def standardizes(self) -> bool:
        """Whether that temperature depends on these rewards, which differ from round to round."""
        return False

    def optimal_log_ratios(self, targets: FloatArray) -> FloatArray | None:
        """(N,) h = ln π(y | x) − ln π_ref(y | x) at which the losses of (N,) targets are smallest, in nats; None: at no finite h.

        It says how far from π_ref the options aim, and is logged.
        """
        return None


@dataclass(kw_only=True)
class Groupwise(Variant):
    """A method that compares the logged responses to a prompt.

    A unit is a prompt with all its responses, sorted by descending reward, at least two of them with different rewards and
    different tokens.
    """

    unit = "prompt, with all its responses"

    def optimal_margin(self, difference: float) -> float | None:
        """h_i − h_j at which the loss of two responses is smallest whose rewards differ by ``difference``, in nats.

        h = ln π(y | x) − ln π_ref(y | x). None: at no finite value. It says how far from π_ref the options aim, and is logged.
        """
        return None


@dataclass(kw_only=True)
class Online(Variant):
    """A method that learns from rollouts: responses sampled from the current policy at temperature 1, without top-p."""

    unit = "response of a rollout"
    drift = ("ratio_old", "kl_old")
    needs_reference: ClassVar[bool] = False  # whether the loss uses ln π_ref of the rollout's tokens

    rollout_size: int = field(metadata=numbers("[2, 2147483647]", 64))  # responses per rollout
    epochs: int = field(metadata=COUNT)  # passes over a rollout before the next one

    @property
    def needs_behaviour(self) -> bool:
        return True

    @property
    def needs_values(self) -> bool:
        return True

    @property
    def per_prompt(self) -> int:
        """Responses to each prompt of a rollout; those to one prompt are adjacent."""
        return 1

    def check(self, reward_range: tuple[float, float], batch_size: int) -> None:
        if self.rollout_size % batch_size:
            raise UserError(
                f"variant.rollout_size={self.rollout_size} is not a multiple of batch_size={batch_size}.",
                f"variant.rollout_size={-(-self.rollout_size // batch_size) * batch_size}",
            )

    @abstractmethod
    def advantages(self, rewards: FloatArray, log_ratios: FloatArray, values: FloatArray) -> FloatArray:
        """(N,) the advantages of the responses of a whole rollout, whatever the number of processes that generated it.

        Args:
            rewards: (N,) rewards R.
            log_ratios: (N,) ln π_old(y) − ln π_ref(y), summed over tokens.
            values: (N,) values V_ref of their prompts; zeros if the method does not need them.
        """


@dataclass(kw_only=True)
class Grouped(Online):
    """An online method that compares several responses to each prompt of a rollout, and needs no values."""

    samples: int = field(metadata=numbers("[2, 2147483647]", 4))  # responses per prompt

    @property
    def needs_values(self) -> bool:
        return False

    @property
    def per_prompt(self) -> int:
        return self.samples

    def check(self, reward_range: tuple[float, float], batch_size: int) -> None:
        super().check(reward_range, batch_size)
        if self.rollout_size % self.samples:
            raise UserError(
                f"variant.rollout_size={self.rollout_size} is not a multiple of variant.samples={self.samples}.",
                f"variant.rollout_size={-(-self.rollout_size // self.samples) * self.samples}",
            )


def clipped(ratio: Tensor, clip: float | None) -> Tensor:
    """clip_ε(z) = min(max(z, 1 − ε), 1 + ε) of a detached ratio of any shape; None: no clipping."""
    return ratio if clip is None else ratio.clamp(1 - clip, 1 + clip)


def clip_fraction(ratio: Tensor, clip: float | None, mask: Tensor) -> Tensor:
    """(B,) the share of tokens whose ratio is clipped, without padding; ratio and mask are (B, T)."""
    return ((clipped(ratio, clip) != ratio) * mask).sum(dim=-1) / mask.sum(dim=-1)
