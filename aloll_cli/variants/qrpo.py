"""Quantile reward policy optimization: the log-ratio of each response is fitted to the quantile of its reward."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import exp, log, log1p
from typing import TYPE_CHECKING

from aloll_cli.schema import numbers
from aloll_cli.variants.base import Batch, Logged, Regression

if TYPE_CHECKING:
    from torch import Tensor

    from aloll_cli.arrays import FloatArray


MOST_TIES = 0.2  # share of a prompt's samples with the reward of another


@dataclass(kw_only=True)
class Qrpo(Regression):
    """QRPO (Matrenok et al. 2025, arXiv 2507.08068): (q − β ln Z − β h)², h = ln π − ln π_ref.

    q is the quantile of the response's reward among those of k samples of π_ref for its prompt (``values.samples``). Where
    rewards do not tie, q is uniform in [0, 1] under π_ref, whatever the reward, so that Z = E e^{q/β} = β (e^{1/β} − 1) is
    known: the loss is smallest at π = π_ref e^{q/β} / Z. Ties, as of labels 0 and 1, make q and with it all targets too high,
    as in the paper; the log warns of many. A response that is worse than all samples has the target h = −ln Z, which is −7.7
    nats for β = 0.1 and −327 for β = 0.003: the longer the responses, the smaller β may be.
    """

    beta: float = field(metadata=numbers("(0, 10]", 0.1))

    @property
    def needs_values(self) -> bool:
        return False

    @property
    def needs_samples(self) -> bool:
        return True

    def doubt(self, logged: Logged) -> str | None:
        """A warning where the rewards of many samples for a prompt are equal, so that q is not uniform under π_ref."""
        import numpy as np

        assert logged.reference_rewards is not None
        ranked = np.sort(logged.reference_rewards, axis=1)
        same = np.pad(ranked[:, 1:] == ranked[:, :-1], ((0, 0), (1, 1)))
        tied = float((same[:, 1:] | same[:, :-1]).mean())
        if tied <= MOST_TIES:
            return None
        return (
            f"{tied:.0%} of the reference's samples have the reward of another one for their prompt: quantiles are not uniform "
            "then, and the targets of variant=qrpo too high. A reward that tells samples apart, or variant=dro, suits better"
        )

    def targets(self, logged: Logged) -> FloatArray:
        """(N,) the share of the samples of π_ref whose reward is at most that of the response."""
        assert logged.reference_rewards is not None
        quantiles: FloatArray = (logged.reference_rewards <= logged.rewards[:, None]).mean(axis=1)
        return quantiles

    def optimal_log_ratios(self, targets: FloatArray) -> FloatArray:
        """(N,) q/β − ln Z."""
        return targets / self.beta - self.log_partition

    def loss(self, batch: Batch) -> Tensor:
        """(B,) (q − β ln Z − β h)²."""
        return (batch.weights - self.beta * (self.log_partition + batch.response_log_ratios)).square()

    @property
    def log_partition(self) -> float:
        """ln Z = ln β + 1/β + ln(1 − e^{−1/β})."""
        return log(self.beta) + 1 / self.beta + log1p(-exp(-1 / self.beta))
