"""Sampling of rows: a pure function of (seed, step), so that resuming needs no sampler state.

NumPy's Philox is keyed by the seed, with the step in the HIGH word of the counter: the low word counts the numbers drawn, so
steps there would overlap. Rows are found by binary search in float64 cumulative weights, for any number of rows.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from aloll_cli.schema import numbers

if TYPE_CHECKING:
    from aloll_cli.arrays import FloatArray, IntArray


@dataclass(kw_only=True)
class Sampling(ABC):
    """How often a row is sampled, given its weight (1, R or A⁺, depending on the variant)."""

    @abstractmethod
    def frequencies(self, weights: FloatArray) -> FloatArray:
        """(N,) weights → (N,) unnormalized sampling frequencies ≥ 0; 0 for a row that is never sampled."""


@dataclass(kw_only=True)
class Priority(Sampling):
    """In proportion to weight ** exponent; rows of weight 0 are never sampled. The paper uses exponent 1.

    The loss is weighted as well, so A⁺ counts twice: the objective is effectively weighted by A².
    """

    exponent: float = field(metadata=numbers("(0, 10]", 1.0))

    def frequencies(self, weights: FloatArray) -> FloatArray:
        return np.maximum(weights, 0) ** self.exponent


@dataclass(kw_only=True)
class Uniform(Sampling):
    """All rows of positive weight, equally often."""

    def frequencies(self, weights: FloatArray) -> FloatArray:
        return np.asarray(weights > 0, dtype=np.float64)


@dataclass(kw_only=True)
class All(Sampling):
    """All rows equally often, including those of weight 0, of which only a penalty is learned (``kl``)."""

    def frequencies(self, weights: FloatArray) -> FloatArray:
        return np.ones_like(weights)


@dataclass(frozen=True, kw_only=True)
class Draws:
    """How many units a run draws, and with which random numbers.

    Attributes:
        batch_size: units per step.
        seed: of the sampling.
        updates: training steps; None for so many epochs.
        epochs: passes over the units that are used; None for so many steps.
    """

    batch_size: int
    seed: int
    updates: int | None
    epochs: float | None

    def identity(self) -> dict[str, Any]:
        return dict(vars(self))

    def steps(self, kept_units: int) -> int:
        """The number of training steps, where ``kept_units`` are used."""
        if self.updates is not None:
            return self.updates
        assert self.epochs is not None
        return max(1, math.ceil(self.epochs * kept_units / self.batch_size))


class BatchSampler:
    """Samples rows with replacement at given frequencies."""

    def __init__(self, frequencies: FloatArray, batch_size: int, seed: int) -> None:
        self._cumulative = np.cumsum(frequencies, dtype=np.float64)
        self._batch_size, self._seed = batch_size, seed

    def rows(self, update: int) -> IntArray:
        """(batch_size,) indices of the rows of a step."""
        uniform = philox(self._seed, update).random(self._batch_size)
        found = np.searchsorted(self._cumulative, uniform * self._cumulative[-1], side="right")
        return np.asarray(np.minimum(found, len(self._cumulative) - 1))


def philox(seed: int, update: int, stream: int = 0) -> np.random.Generator:
    """The random numbers of one step, independent of those of other steps and streams."""
    return np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, stream, update]))
