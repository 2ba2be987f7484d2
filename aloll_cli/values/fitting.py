"""Cross-fitting of a value head, shared by ``head`` and ``data``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from aloll_cli.errors import UserError
from aloll_cli.schema import COUNT, SEED, numbers
from aloll_cli.values.base import Estimate, Evidence, LoggedRewards, Values

if TYPE_CHECKING:
    from torch import Tensor

    from aloll_cli.arrays import FloatArray, IntArray
    from aloll_cli.models.value_head import Fit
    from aloll_cli.values.base import States


@dataclass(kw_only=True)
class CrossFitted(Values):
    """An estimate that is fitted, and measured on folds of held-out prompts."""

    folds: int = field(metadata=numbers("[2, 2147483647]", 5))
    seed: int = field(metadata=SEED)

    def check_data(self, responses: Callable[[str], IntArray]) -> None:
        assert self.fitted_on is not None
        count = len(responses(self.fitted_on))
        if count < self.folds:
            raise UserError(
                f"values.folds={self.folds} needs at least {self.folds} {self.fitted_on} prompts, and there are {count}.",
                f"values.folds={count}, or values=constant" if count > 1 else "values=constant",
            )


@dataclass(kw_only=True)
class FittedValues(CrossFitted):
    """A value head on π_ref's prompt states (models/value_head.py); k-fold cross-validation selects the number of epochs.

    The head starts as the mean of the rewards. If no number of epochs has a lower held-out error, it stays that.
    """

    version: ClassVar[int] = 2

    lr: float = field(metadata=numbers("(0, 10]", 1e-3))
    epochs: int = field(metadata=COUNT)  # at most
    batch_size: int = field(metadata=COUNT)  # prompts
    dropout: float = field(metadata=numbers("[0, 1)", 0.1))
    weight_decay: float = field(metadata=numbers("[0, 10]", 0.01))

    def fit(self, states: list[Tensor], targets: FloatArray, counts: FloatArray, evidence: Evidence) -> Fit:
        """Cross-fit heads and log their held-out MSE next to that of predicting the mean."""
        from aloll_cli.models.value_head import cross_fit

        fit = cross_fit(states, targets, counts, self.options(evidence.range), self.folds)
        explained = 1 - fit.error / fit.constant_error if fit.constant_error else 0.0
        evidence.say(
            f"  value head: held-out MSE {fit.error:.5f} after {fit.epoch} {'epoch' if fit.epoch == 1 else 'epochs'} "
            f"(predicting the mean: {fit.constant_error:.5f}, so {explained:.1%} of the variance is explained; "
            f"{len(states):,} prompts, {self.folds} folds)"
        )
        if not fit.epoch:
            evidence.warn("the value head predicts rewards no better than their mean does, so V(x) is their mean")
        return fit

    def options(self, bounds: tuple[float, float]) -> Any:
        """The options of models/value_head.py."""
        from aloll_cli.models.value_head import HeadOptions

        lo, hi = bounds
        return HeadOptions(lo, hi, self.lr, self.epochs, self.batch_size, self.dropout, self.weight_decay, self.seed)


@dataclass(frozen=True)
class HeadEstimate(Estimate):
    """Predictions of value heads; for the prompts they were fitted on, that of the head which did not see the prompt."""

    heads: list[Any]
    states: States
    crossed_split: str | None
    folds: IntArray

    def of(self, split: str, logged: LoggedRewards, rows: slice) -> FloatArray:
        from aloll_cli.models.value_head import predict

        prompts, place = np.unique(logged.groups[rows], return_inverse=True)
        states = self.states(split, prompts)
        every = np.stack([predict(head, states) for head in self.heads])
        if split == self.crossed_split:
            return np.asarray(every[self.folds[prompts], np.arange(len(prompts))][place])
        return np.asarray(every.mean(axis=0)[place])
