"""Where the units of an update come from: logged responses, one by one or in groups; or a rollout (rollouts.py)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from aloll_cli.training.batches import Tokens

if TYPE_CHECKING:
    from aloll_cli.arrays import BoolArray, Float32Array, FloatArray, IntArray
    from aloll_cli.models.logprobs import ResponseLogps
    from aloll_cli.runtime.world import World
    from aloll_cli.training.sampling import BatchSampler


class Responses(Tokens, Protocol):
    """Prompts and responses by row, with the lengths of all."""

    def __len__(self) -> int: ...

    def prompt_lengths(self) -> IntArray:
        """(N,) tokens of each prompt."""

    def response_lengths(self) -> IntArray:
        """(N,) tokens of each response."""


class Logps(Protocol):
    """Log-probs of responses by row."""

    def row(self, index: int) -> Float32Array:
        """(T,) log-probs of a response's tokens."""


@dataclass
class Rows:
    """N responses with all that is constant while updates learn from them.

    Attributes:
        responses: their tokens.
        weights: (N,) what the variant weights them by: 1, R, A⁺ or A.
        rewards: (N,) R, or zeros where the variant needs none.
        behaviour: ln π of every token under the policy that ratios are taken to, where the variant takes any.
    """

    responses: Responses
    weights: FloatArray
    rewards: FloatArray
    behaviour: Logps | None

    @cached_property
    def response_lengths(self) -> IntArray:
        """(N,) tokens of each response."""
        return self.responses.response_lengths()

    @cached_property
    def lengths(self) -> IntArray:
        """(N,) tokens of each prompt and response together."""
        return self.responses.prompt_lengths() + self.response_lengths


class Source(ABC):
    """What a policy learns from, update by update.

    Attributes:
        rows: what the units of the present update are made of.
        kept_units: how many units a pass over the data has.
        kept: their share of all units: the leftover lunch; None where units are made and none is left out.
    """

    rows: Rows
    kept_units: int
    kept: float | None

    @property
    def stored(self) -> Rows | None:
        """Rows that are there before the first update, whose behaviour policy is the one that training starts from."""
        return None

    def prepare(self, update: int, module: ResponseLogps, world: World) -> dict[str, float]:
        """Get ready for an update of a policy in eval mode; every process calls it. Returns figures to log."""
        return {}

    @abstractmethod
    def units(self, update: int) -> list[IntArray]:
        """The rows of each unit of an update: a pure function of the seed and the update, once that is prepared."""

    def save(self, folder: Path) -> None:  # noqa: B027  what is logged changes with no update
        """Write what the next updates need, beside a checkpoint."""

    def load(self, folder: Path) -> None:  # noqa: B027
        """The inverse of :meth:`save`."""


@dataclass
class LoggedUnits(Source):
    """Units of logged responses, drawn with replacement.

    Attributes:
        members: (M,) rows, those of a unit side by side.
        offsets: (U + 1,) where each unit begins among them.
        sampler: draws the units of a step.
    """

    rows: Rows
    kept_units: int
    kept: float
    members: IntArray
    offsets: IntArray
    sampler: BatchSampler

    @property
    def stored(self) -> Rows:
        return self.rows

    def units(self, update: int) -> list[IntArray]:
        return [self.members[self.offsets[i] : self.offsets[i + 1]] for i in self.sampler.rows(update)]


def one_by_one(count: int) -> tuple[IntArray, IntArray]:
    """Members and offsets of units that are one response each."""
    return np.arange(count), np.arange(count + 1)


def ranked(groups: IntArray, rewards: Float32Array) -> tuple[IntArray, IntArray, BoolArray]:
    """Members and offsets of units that are the responses to a prompt, and which of these have a preference.

    Args:
        groups: (N,) which of G prompts each response answers.
        rewards: (N,) in the precision in which losses compare them.

    Returns:
        (N,) members by falling reward, equal ones as they come; (G + 1,) offsets; (G,) whether a group's rewards differ.
    """
    members = np.lexsort((-rewards, groups))
    offsets = np.concatenate([[0], np.cumsum(np.bincount(groups))])
    best, worst = rewards[members[offsets[:-1]]], rewards[members[offsets[1:] - 1]]
    return members, offsets, best > worst


def packed(units: list[IntArray], most: int) -> list[list[IntArray]]:
    """Units in order, in batches of at most so many rows; none is split, and a larger one is a batch of its own."""
    batches: list[list[IntArray]] = []
    room = 0
    for unit in units:
        if len(unit) > room:
            batches.append([])
            room = most
        batches[-1].append(unit)
        room -= len(unit)
    return batches
