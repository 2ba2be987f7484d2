"""What a fine-tuned reward is fitted to: ratings, comparisons of responses to one prompt, or labels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from aloll_cli.errors import UserError
from aloll_cli.rewards.base import Row
from aloll_cli.rewards.ratings import check_labels, check_variation
from aloll_cli.rewards.skill import skill, skill_with_labels

if TYPE_CHECKING:
    from torch import Tensor

    from aloll_cli.arrays import FloatArray, IntArray


class Objective(ABC):
    """A loss of predicted scores, and what the scores mean."""

    def check(self, rows: Sequence[Row], stored: FloatArray) -> None:
        """Raises UserError where the (N,) stored rewards of N rows cannot be learned in this way."""
        self.check_each(rows)
        check_variation(stored, "reward=finetuned")

    def check_each(self, rows: Sequence[Row]) -> None:  # noqa: B027  most take any number
        """Raises UserError where a stored reward is not of this kind, whatever the others; for held-out rows, too."""

    def scale(self, stored: FloatArray) -> tuple[float, float]:
        """Shift and scale of the (N,) stored rewards that training takes; a prediction is shift + scale · score."""
        return 0.0, 1.0

    def units(self, rows: Sequence[Row], stored: FloatArray) -> list[IntArray]:
        """The rows of each unit that a loss is taken of; rows of no unit are not trained on."""
        return [np.array([i]) for i in range(len(rows))]

    def best_constant(self, targets: FloatArray) -> float:
        """The score with the lowest loss if it is the same for all texts."""
        return 0.0

    @abstractmethod
    def losses(self, scores: Tensor, targets: Tensor, unit: Tensor) -> Tensor:
        """The loss of each unit.

        Args:
            scores: (R,) predictions.
            targets: (R,) stored rewards, less the shift, over the scale.
            unit: (R,) the unit of each row, from 0 to U − 1, each at least once.

        Returns:
            (U,) losses.
        """

    @abstractmethod
    def skill(self, predicted: FloatArray, rows: Sequence[Row], stored: FloatArray) -> dict[str, float]:
        """How well (N,) predictions agree with the stored rewards of N rows (rewards/skill.py)."""


class Regression(Objective):
    """Squared error of standardized ratings."""

    def scale(self, stored: FloatArray) -> tuple[float, float]:
        return float(stored.mean()), float(stored.std())

    def losses(self, scores: Tensor, targets: Tensor, unit: Tensor) -> Tensor:
        return (scores - targets).square()

    def skill(self, predicted: FloatArray, rows: Sequence[Row], stored: FloatArray) -> dict[str, float]:
        return skill(predicted, rows, stored)


class Pairs(Objective):
    """−ln σ(s_i − s_j) over all pairs of responses to one prompt where i is rated higher (Bradley & Terry 1952)."""

    def check(self, rows: Sequence[Row], stored: FloatArray) -> None:
        super().check(rows, stored)
        if not self.units(rows, stored):
            raise UserError(
                f"reward.objective=pairs has nothing to compare: of {len({row.group for row in rows}):,} prompts none has two "
                "responses with different ratings.",
                "reward.objective=regression",
            )

    def units(self, rows: Sequence[Row], stored: FloatArray) -> list[IntArray]:
        members: dict[str, list[int]] = {}
        for i, row in enumerate(rows):
            members.setdefault(row.group, []).append(i)
        return [np.array(unit) for unit in members.values() if len(set(stored[unit].tolist())) > 1]

    def losses(self, scores: Tensor, targets: Tensor, unit: Tensor) -> Tensor:
        from torch.nn.functional import logsigmoid

        is_pair = (unit[:, None] == unit) & (targets[:, None] > targets)  # (R, R): row i is rated higher than row j
        of_row = (-logsigmoid(scores[:, None] - scores) * is_pair).sum(dim=1)
        count = int(unit.max()) + 1
        total = of_row.new_zeros(count).index_add(0, unit, of_row)
        return total / of_row.new_zeros(count).index_add(0, unit, is_pair.sum(dim=1).to(of_row.dtype))

    def skill(self, predicted: FloatArray, rows: Sequence[Row], stored: FloatArray) -> dict[str, float]:
        figures = skill(predicted, rows, stored)
        figures.pop("r2", None)  # differences of scores have a meaning, their size does not
        return figures


class Labels(Objective):
    """Cross-entropy of σ(s) and labels 0 and 1."""

    def check_each(self, rows: Sequence[Row]) -> None:
        check_labels(rows, "reward.objective=labels", "reward.objective=regression")

    def best_constant(self, targets: FloatArray) -> float:
        share = float(np.clip(targets.mean(), 1e-6, 1 - 1e-6))
        return float(np.log(share / (1 - share)))

    def losses(self, scores: Tensor, targets: Tensor, unit: Tensor) -> Tensor:
        from torch.nn.functional import binary_cross_entropy_with_logits

        return binary_cross_entropy_with_logits(scores, targets, reduction="none")

    def skill(self, predicted: FloatArray, rows: Sequence[Row], stored: FloatArray) -> dict[str, float]:
        from scipy.special import expit

        return skill_with_labels(np.asarray(expit(predicted)), rows)
