"""A ridge regression of the logged rewards on the whole prompt."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aloll_cli.values.base import Estimate, Evidence
from aloll_cli.values.regression import RidgeValues


@dataclass(kw_only=True)
class Ridge(RidgeValues):
    """A ridge on the whole prompt, cross-fitted by prompt on logged rewards; no scorer is needed, and no sample."""

    def estimate(self, evidence: Evidence) -> Estimate:
        assert evidence.train.rewards is not None
        counts = np.bincount(evidence.train.groups).astype(np.float64)
        means = np.bincount(evidence.train.groups, weights=evidence.train.rewards) / counts
        return self.fit(means, counts, evidence)
