"""V(x) that is learned together with the policy: the value of DRO-V."""

from __future__ import annotations

from dataclasses import dataclass, field

from aloll_cli.schema import numbers
from aloll_cli.values.base import Estimate, Evidence, Values
from aloll_cli.values.constant import Constant


@dataclass(kw_only=True)
class Joint(Values):
    """V learned together with the policy, by (V − R + τ h)² (DRO-V, Richemond et al. 2024, arXiv 2405.19107).

    V starts at the mean reward of the logged training responses. What is added to it in training is a linear function of two
    states of the prompt under π_ref, their mean and the last one (training/joint_values.py); the paper trains a network.
    """

    lr: float = field(metadata=numbers("(0, 10]", 1e-2))

    @property
    def is_soft(self) -> bool:
        return True

    def estimate(self, evidence: Evidence) -> Estimate:
        """The value that training starts from."""
        return Constant(value=None).estimate(evidence)
