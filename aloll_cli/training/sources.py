"""Sources of training data: logged responses, individually or in groups by prompt; or rollouts (rollouts.py)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from aloll_cli.training.batches import Tokens

if TYPE_CHECKING:
    from typing import Any

    from aloll_cli.arrays import BoolArray, Float32Array, FloatArray, IntArray
    from aloll_cli.models.logprobs import ResponseLogps
    from aloll_cli.runtime.world import World
    from aloll_cli.training.joint_values import JointValues
    from aloll_cli.training.mismatched import Mismatched
    from aloll_cli.training.sampling import BatchSampler
    from aloll_cli.variants.base import Batch


class Responses(Tokens, Protocol):
    """Prompts and responses by row, with their lengths."""

    def prompt_lengths(self, rows: IntArray) -> IntArray:
        """(n,) number of tokens of the prompts of n rows."""

    def response_lengths(self, rows: IntArray) -> IntArray:
        """(n,) number of tokens of the responses of n rows."""


class Logps(Protocol):
    """Log-probs of responses by row."""

    @property
    def rows(self) -> IntArray:
        """(M,) the rows that have some, ascending."""

    def row(self, index: int) -> Float32Array:
        """(T,) log-probs of a response's tokens."""


@dataclass
class Rows:
    """N responses with everything about them that is constant during training.

    Attributes:
        responses: their token ids.
        weights: (N,) the weights of the variant: 1, R, A⁺ or A.
        rewards: (N,) R, or zeros if the variant needs none.
        behaviour: log-probs of every token under the behaviour policy, the denominator of importance ratios; None if not needed.
        reference: log-probs of every token of a rollout under π_ref; None if not needed.
    """

    responses: Responses
    weights: FloatArray
    rewards: FloatArray
    behaviour: Logps | None
    reference: Logps | None = None

    def response_lengths(self, rows: IntArray) -> IntArray:
        """(n,) number of tokens of the responses of n rows."""
        return self.responses.response_lengths(rows)

    def lengths(self, rows: IntArray) -> IntArray:
        """(n,) number of tokens of prompt and response together, of n rows."""
        return self.responses.prompt_lengths(rows) + self.response_lengths(rows)


class Source(ABC):
    """The training data of a policy, in units of which a loss is taken: a response, or the responses to a prompt.

    Attributes:
        rows: the responses that units refer to at the current step.
        kept_units: number of units per epoch.
        kept: the share of data used, those units of all; None for rollouts, which leave nothing out.
    """

    rows: Rows
    kept_units: int
    kept: float | None
    mismatched_log_ratios: FloatArray | None = None  # of the current step (training/mismatched.py); None if not needed

    @property
    def stored(self) -> Rows | None:
        """Rows that exist before the first step, with the initial policy as behaviour policy; None for rollouts."""
        return None

    def asks(self, update: int) -> bool:
        """Whether ``prepare`` computes with the policy at this step."""
        return False

    def prepare(self, update: int, module: ResponseLogps, world: World) -> dict[str, float]:
        """Prepare a step; the policy is in eval mode, and every process must call this. Returns metrics to log."""
        return {}

    @abstractmethod
    def units(self, update: int) -> list[IntArray]:
        """The rows of each unit of a step: a pure function of the seed and the step, after ``prepare``."""

    def observe(self, rows: IntArray, batch: Batch) -> None:  # noqa: B027  most learn nothing besides the policy
        """See what a loss read: (B,) rows of a micro-batch of this process."""

    def learn(self, world: World) -> dict[str, float]:
        """Learn from what was seen in a step; every process must call this. Returns metrics to log."""
        return {}

    def save(self, folder: Path) -> None:  # noqa: B027  logged data has no state
        """Add the state that the next steps need to a checkpoint."""

    def load(self, folder: Path) -> None:  # noqa: B027
        """The inverse of :meth:`save`."""


@dataclass
class LoggedUnits(Source):
    """Units of logged responses, sampled with replacement.

    Attributes:
        grouped: members (M,), the rows by unit, and offsets (U + 1,), where each unit begins among them; None: units are rows.
        sampler: samples the units of a step.
        mismatched: the rows' prompts with responses to other prompts; None if not needed.
        values: V(x), if it is learned together with the policy.
    """

    rows: Rows
    kept_units: int
    kept: float
    grouped: tuple[IntArray, IntArray] | None
    sampler: BatchSampler
    mismatched: Mismatched | None = None
    values: JointValues | None = None

    @property
    def stored(self) -> Rows:
        return self.rows

    def asks(self, update: int) -> bool:
        return self.mismatched is not None

    def prepare(self, update: int, module: ResponseLogps, world: World) -> dict[str, float]:
        """Compute what a loss reads of the whole step, the log-ratios of its mismatched pairs, and what V(x) is now."""
        if self.mismatched is not None:
            self.mismatched_log_ratios = self.mismatched.log_ratios(update, module, world)
        if self.values is not None:
            rows = np.unique(np.concatenate(self.units(update)))
            self.rows.weights[rows] = self.values.targets(rows)
        return {}

    def observe(self, rows: IntArray, batch: Batch) -> None:
        if self.values is not None:
            self.values.observe(rows, batch)

    def learn(self, world: World) -> dict[str, float]:
        return {} if self.values is None else self.values.learn(world)

    def save(self, folder: Path) -> None:
        if self.values is not None:
            self.values.save(folder)

    def load(self, folder: Path) -> None:
        if self.values is not None:
            self.values.load(folder)

    def units(self, update: int) -> list[IntArray]:
        drawn = self.sampler.rows(update)
        if self.grouped is None:
            return np.split(drawn, len(drawn))
        members, offsets = self.grouped
        return [members[offsets[i] : offsets[i + 1]] for i in drawn]


def ranked(groups: IntArray, rewards: Float32Array, texts: np.ndarray[Any, Any]) -> tuple[IntArray, IntArray, BoolArray]:
    """Members and offsets of units of all responses to a prompt, and which units have a pair to compare.

    Args:
        groups: (N,) index of the prompt of each response, out of G.
        rewards: (N,) in the precision in which losses compare them.
        texts: (N,) equal where the model sees the same response.

    Returns:
        (N,) members by decreasing reward, ties in order; (G + 1,) offsets; (G,) whether two responses of a group differ in reward
        and in text. Where neither all rewards nor all texts of a group are equal, there is such a pair: of two responses with
        different rewards but one text, a third one with another text differs in its reward from one of them.
    """
    members = np.lexsort((-rewards, groups))
    offsets = np.concatenate([[0], np.cumsum(np.bincount(groups))])
    first = members[offsets[:-1]]
    differs = (rewards[members] != rewards[first][groups[members]]) * 1 + (texts[members] != texts[first][groups[members]]) * 2
    kinds = np.bitwise_or.reduceat(differs, offsets[:-1])
    return members, offsets, kinds == 3


def same_texts(texts: Sequence[bytes]) -> list[int]:
    """(N,) numbers that are equal for equal texts: the index of the first that is the same."""
    first: dict[bytes, int] = {}
    return [first.setdefault(text, i) for i, text in enumerate(texts)]


def packed(units: list[IntArray], most: int) -> list[list[IntArray]]:
    """Units in order, in micro-batches of at most ``most`` rows; a unit is never split, even if it is larger."""
    batches: list[list[IntArray]] = []
    room = 0
    for unit in units:
        if len(unit) > room:
            batches.append([])
            room = most
        batches[-1].append(unit)
        room -= len(unit)
    return batches
