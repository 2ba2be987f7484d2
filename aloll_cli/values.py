"""Ways of estimating V(x) = E_{y ~ π_ref} R(x, y), the baseline of the advantage."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from aloll_cli.config import COUNT, SEED, numbers
from aloll_cli.decoding import Generation, Sample
from aloll_cli.errors import UserError
from aloll_cli.tasks.base import SPLITS

if TYPE_CHECKING:
    from torch import Tensor

    from aloll_cli.arrays import FloatArray, IntArray
    from aloll_cli.value_head import Fit

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


@dataclass(frozen=True)
class _Constant(Estimate):
    value: float

    def of(self, split: str, logged: LoggedRewards, rows: slice) -> FloatArray:
        return np.full(rows.stop - rows.start, self.value)


@dataclass(kw_only=True)
class Constant(Values):
    """The same value for every prompt: the one given, or the mean logged training reward."""

    value: float | None

    def check(self, bounds: tuple[float, float]) -> None:
        if self.value is not None and self.value >= bounds[1]:
            raise UserError(
                f"values.value={self.value}: no reward is above {bounds[1]}, so that no advantage would be positive.",
                "values.value=null, for the mean training reward",
            )

    def estimate(self, evidence: Evidence) -> Estimate:
        if self.value is not None:
            return _Constant(self.value)
        assert evidence.train.rewards is not None
        return _Constant(float(evidence.train.rewards.mean()))


@dataclass(frozen=True)
class _LeaveOneOut(Estimate):
    fallback: float

    def of(self, split: str, logged: LoggedRewards, rows: slice) -> FloatArray:
        if logged.rewards is None:
            return np.full(rows.stop - rows.start, self.fallback)
        sums = np.bincount(logged.groups, weights=logged.rewards)[logged.groups]
        counts = np.bincount(logged.groups)[logged.groups]
        others = np.maximum(counts - 1, 1)
        return np.where(counts > 1, (sums - logged.rewards) / others, self.fallback)[rows]


@dataclass(kw_only=True)
class Group(Values):
    """The mean reward of the other logged responses to the prompt; where there is none, the mean of all."""

    def estimate(self, evidence: Evidence) -> Estimate:
        assert evidence.train.rewards is not None
        single = float(np.mean(np.bincount(evidence.train.groups) == 1))
        evidence.say(f"  {single:.1%} of the training prompts have a single response and get the mean reward as their value")
        if single == 1:
            raise UserError("values=group needs prompts with several responses, and every prompt has one.", "values=data")
        return _LeaveOneOut(float(evidence.train.rewards.mean()))


@dataclass(kw_only=True)
class Learned(Values):
    """A value head on the reference's prompt states (value_head.py), the number of epochs chosen by k folds."""

    lr: float = field(metadata=numbers("(0, 10]", 1e-3))
    epochs: int = field(metadata=COUNT)  # at most
    batch_size: int = field(metadata=COUNT)  # prompts
    dropout: float = field(metadata=numbers("[0, 1)", 0.1))
    weight_decay: float = field(metadata=numbers("[0, 10]", 0.01))
    folds: int = field(metadata=numbers("[2, 2147483647]", 5))
    seed: int = field(metadata=SEED)

    def check_prompts(self, count: int) -> None:
        if count < self.folds:
            raise UserError(f"values.folds={self.folds} folds of {count} prompts cannot be made.", "values=constant")

    def fit(self, states: list[Tensor], targets: FloatArray, counts: FloatArray, evidence: Evidence) -> Fit:
        """Cross-fit heads and report their error beside the best constant's."""
        from aloll_cli.value_head import cross_fit

        fit = cross_fit(states, targets, counts, self.options(evidence.range), self.folds)
        evidence.say(
            f"  value head: held-out squared error {fit.error:.5f} after {fit.epoch} epochs, "
            f"a constant's {fit.constant_error:.5f} ({len(states)} prompts, {self.folds} folds)"
        )
        if fit.error >= fit.constant_error:
            evidence.say("  warning: the value head is no better than a constant; consider values=constant")
        return fit

    def options(self, bounds: tuple[float, float]) -> Any:
        """As value_head takes them."""
        from aloll_cli.value_head import HeadOptions

        lo, hi = bounds
        return HeadOptions(lo, hi, self.lr, self.epochs, self.batch_size, self.dropout, self.weight_decay, self.seed)


@dataclass(frozen=True)
class _HeadEstimate(Estimate):
    """Heads on prompt states: on the prompts they were fitted on, each head speaks for the fold it did not see."""

    heads: list[Any]
    states: States
    crossed_split: str | None
    folds: IntArray

    def of(self, split: str, logged: LoggedRewards, rows: slice) -> FloatArray:
        from aloll_cli.value_head import predict

        prompts, place = np.unique(logged.groups[rows], return_inverse=True)
        states = self.states(split, prompts)
        every = np.stack([predict(head, states) for head in self.heads])
        if split == self.crossed_split:
            return np.asarray(every[self.folds[prompts], np.arange(len(prompts))][place])
        return np.asarray(every.mean(axis=0)[place])


@dataclass(kw_only=True)
class Head(Learned):
    """The paper's: fitted on π_ref's own samples on VALIDATION prompts, then applied to the training prompts."""

    @property
    def sampled_on(self) -> str | None:
        return "validation"

    @property
    def fitted_on(self) -> str | None:
        return "validation"

    def estimate(self, evidence: Evidence) -> Estimate:
        import torch

        from aloll_cli.value_head import train_head

        assert evidence.sample_rewards is not None
        targets = evidence.sample_rewards.mean(axis=1)
        states = evidence.states("validation", np.arange(len(targets)))
        counts = np.ones_like(targets)  # as many samples for each
        fit = self.fit(states, targets, counts, evidence)
        y, w = (torch.tensor(a, dtype=torch.float32) for a in (targets, counts))
        head = train_head(states, y, w, self.options(evidence.range), fit.epoch)
        return _HeadEstimate([head], evidence.states, None, fit.folds)


@dataclass(kw_only=True)
class Data(Learned):
    """The head cross-fitted by prompt on the logged rewards: π_ref imitates the data, so E_D R ≈ E_ref R. Needs no scorer."""

    @property
    def fitted_on(self) -> str | None:
        return "train"

    def estimate(self, evidence: Evidence) -> Estimate:
        assert evidence.train.rewards is not None
        counts = np.bincount(evidence.train.groups).astype(np.float64)
        means = np.bincount(evidence.train.groups, weights=evidence.train.rewards) / counts
        fit = self.fit(evidence.states("train", np.arange(len(means))), means, counts, evidence)
        return _HeadEstimate(fit.heads, evidence.states, "train", fit.folds)


@dataclass(frozen=True)
class _ByPrompt(Estimate):
    means: FloatArray

    def of(self, split: str, logged: LoggedRewards, rows: slice) -> FloatArray:
        return self.means[logged.groups[rows]]


@dataclass(kw_only=True)
class MonteCarlo(Values):
    """The mean reward of π_ref's own fresh samples to each training prompt: no model of V, and so no error but noise."""

    samples: int = field(metadata=COUNT)  # a prompt
    seed: int = field(metadata=SEED)
    top_p: float = field(metadata=numbers("(0, 1]", 1.0))
    temperature: float = field(metadata=numbers("(0, 100]", 1.0))

    splits = ("train",)

    @property
    def sampled_on(self) -> str | None:
        return "train"

    def sampling(self, generation: Generation) -> Generation:
        return Sample(
            samples=self.samples, seed=self.seed, top_p=self.top_p, temperature=self.temperature, repetition_penalty=1.0
        )

    def estimate(self, evidence: Evidence) -> Estimate:
        assert evidence.sample_rewards is not None
        means = evidence.sample_rewards.mean(axis=1)
        if self.samples > 1:
            noise = np.sqrt(evidence.sample_rewards.var(axis=1, ddof=1).mean() / self.samples)
            error = f"standard error of V {noise:.3f}, s.d. over prompts {means.std():.3f}"
            evidence.say(f"  {self.samples} samples a prompt: {error}")
        return _ByPrompt(means)
