"""Direct reward optimization: the log-ratio of each response is fitted to its advantage."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aloll_cli.schema import numbers
from aloll_cli.variants.base import Batch, Logged, Regression

if TYPE_CHECKING:
    from torch import Tensor

    from aloll_cli.arrays import FloatArray


@dataclass(kw_only=True)
class Dro(Regression):
    """DRO (Richemond et al. 2024, arXiv 2405.19107) on single logged responses: −A ln π + (τ/2) h², h = ln π − ln π_ref.

    Up to a constant this is (τ/2) (h − A/τ)²: it uses good and bad responses, and has a fixed point. Rewards are divided by
    their standard deviation over the training responses. The paper (DRO-V) learns V together with π, by (V − R + τ h)²: this is
    ``values=joint``. ``values=soft`` estimates that V from samples; the others are means, with which the fixed point is another.
    """

    tau: float = field(metadata=numbers("(0, 1000]", 1.0))
    per_token: bool

    def targets(self, logged: Logged) -> FloatArray:
        """(N,) advantages in standard deviations of the reward."""
        scaled: FloatArray = super().targets(logged) / max(float(logged.rewards.std()), 1e-6)
        return scaled

    def optimal_log_ratios(self, targets: FloatArray) -> FloatArray | None:
        """(N,) A/τ; None with ``per_token``, where it depends on the tokens."""
        return None if self.per_token else targets / self.tau

    @property
    def soft_values(self) -> bool:
        """Not with ``per_token``: the loss is then smallest at h = (R − V)/τ for no V(x) at all."""
        return not self.per_token

    def soft_temperature(self, rewards: FloatArray) -> float | None:
        """τ in units of the reward: τ times its standard deviation."""
        return None if self.per_token else self.tau * max(float(rewards.std()), 1e-6)

    @property
    def standardizes(self) -> bool:
        return not self.per_token

    @property
    def learns_values(self) -> bool:
        return not self.per_token

    def value_errors(self, batch: Batch) -> Tensor:
        """(B,) V − R + τ h."""
        return self.tau * batch.log_ratio.sum(dim=-1) - batch.weights

    def loss(self, batch: Batch) -> Tensor:
        """(B,) −A ln π + (τ/2) h²; with ``per_token`` −A ln π + (τ/2) Σ_t (ln r_t)²."""
        assert batch.behaviour_logps is not None
        by_token = (batch.logps - batch.behaviour_logps).square().sum(dim=-1)
        squared = by_token if self.per_token else batch.response_log_ratios.square()
        return -batch.weights * batch.logps.sum(dim=-1) + self.tau / 2 * squared
