"""The paper's method: a value head fitted on rewards of samples of π_ref for validation prompts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from aloll_cli.values.base import Estimate, Evidence
from aloll_cli.values.fitting import FittedValues, HeadEstimate

if TYPE_CHECKING:
    pass


@dataclass(kw_only=True)
class Head(FittedValues):
    """The paper's method: a head fitted on scored samples of π_ref for VALIDATION prompts, applied to the training prompts."""

    @property
    def sampled_on(self) -> str | None:
        return "validation"

    @property
    def fitted_on(self) -> str | None:
        return "validation"

    def estimate(self, evidence: Evidence) -> Estimate:
        import torch

        from aloll_cli.models.value_head import train_head

        assert evidence.sample_rewards is not None
        targets = evidence.sample_rewards.mean(axis=1)
        states = evidence.states("validation", np.arange(len(targets)))
        counts = np.ones_like(targets)  # every prompt has the same number of samples
        fit = self.fit(states, targets, counts, evidence)
        y, w = (torch.tensor(a, dtype=torch.float32) for a in (targets, counts))
        head = train_head(states, y, w, self.options(evidence.range), fit.epoch)
        return HeadEstimate([head], evidence.states, None, fit.folds)
