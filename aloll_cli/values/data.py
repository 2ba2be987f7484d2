"""A value head fitted on the logged rewards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from aloll_cli.values.base import Estimate, Evidence
from aloll_cli.values.fitting import FittedValues, HeadEstimate

if TYPE_CHECKING:
    pass


@dataclass(kw_only=True)
class Data(FittedValues):
    """A value head cross-fitted by prompt on logged rewards; no scorer is needed. π_ref imitates the data, so E_D R ≈ E_ref R."""

    @property
    def fitted_on(self) -> str | None:
        return "train"

    def estimate(self, evidence: Evidence) -> Estimate:
        assert evidence.train.rewards is not None
        counts = np.bincount(evidence.train.groups).astype(np.float64)
        means = np.bincount(evidence.train.groups, weights=evidence.train.rewards) / counts
        fit = self.fit(evidence.states("train", np.arange(len(means))), means, counts, evidence)
        return HeadEstimate(fit.heads, evidence.states, "train", fit.folds)
