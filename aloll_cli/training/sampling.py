"""Which rows an update draws: a pure function of (seed, update), so that resuming needs the update's number only.

Numpy's Philox is keyed by the seed with the update in the HIGH counter word: the low word counts the numbers drawn, so
updates there would overlap. Cumulative weights are float64 and searched, which has no limit on the number of rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from aloll_cli.schema import numbers

if TYPE_CHECKING:
    from aloll_cli.arrays import FloatArray, IntArray


@dataclass(kw_only=True)
class Sampling(ABC):
    """How often a row is drawn, given its weight (1, R or A⁺ by variant)."""

    @abstractmethod
    def frequencies(self, weights: FloatArray) -> FloatArray:
        """(N,) weights → (N,) non-negative frequencies, not normalised; 0 for a row that is left out."""


@dataclass(kw_only=True)
class Priority(Sampling):
    """In proportion to weight ** exponent, rows of weight 0 left out. The paper's way, with exponent 1.

    The loss is weighted as well, so A⁺ counts twice: the objective is effectively that of A².
    """

    exponent: float = field(metadata=numbers("(0, 10]", 1.0))

    def frequencies(self, weights: FloatArray) -> FloatArray:
        return np.maximum(weights, 0) ** self.exponent


@dataclass(kw_only=True)
class Uniform(Sampling):
    """Each row of positive weight equally often."""

    def frequencies(self, weights: FloatArray) -> FloatArray:
        return np.asarray(weights > 0, dtype=np.float64)


@dataclass(kw_only=True)
class All(Sampling):
    """Each row equally often, also those of weight 0, whose loss is 0."""

    def frequencies(self, weights: FloatArray) -> FloatArray:
        return np.ones_like(weights)


class BatchSampler:
    """Rows drawn with replacement at given frequencies."""

    def __init__(self, frequencies: FloatArray, batch_size: int, seed: int) -> None:
        self._cumulative = np.cumsum(frequencies, dtype=np.float64)
        self._batch_size, self._seed = batch_size, seed

    def rows(self, update: int) -> IntArray:
        """(batch_size,) indices of the rows of an update."""
        uniform = philox(self._seed, update).random(self._batch_size)
        found = np.searchsorted(self._cumulative, uniform * self._cumulative[-1], side="right")
        return np.asarray(np.minimum(found, len(self._cumulative) - 1))


def philox(seed: int, update: int) -> np.random.Generator:
    """Random numbers of one update, which share none with another's."""
    return np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, 0, update]))
