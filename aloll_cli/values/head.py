"""The paper's values: a head fitted on the rewards of π_ref's own samples on validation prompts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from aloll_cli.values.base import Estimate, Evidence
from aloll_cli.values.fitting import HeadEstimate, Learned

if TYPE_CHECKING:
    pass


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

        from aloll_cli.models.value_head import train_head

        assert evidence.sample_rewards is not None
        targets = evidence.sample_rewards.mean(axis=1)
        states = evidence.states("validation", np.arange(len(targets)))
        counts = np.ones_like(targets)  # as many samples for each
        fit = self.fit(states, targets, counts, evidence)
        y, w = (torch.tensor(a, dtype=torch.float32) for a in (targets, counts))
        head = train_head(states, y, w, self.options(evidence.range), fit.epoch)
        return HeadEstimate([head], evidence.states, None, fit.folds)
