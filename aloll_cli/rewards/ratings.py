"""The stored rewards that a reward is fitted to: of which prompts, and what is wrong with some."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from enum import Enum
from typing import TYPE_CHECKING

from aloll_cli.errors import NoStoredReward, UserError
from aloll_cli.rewards.base import Row
from aloll_cli.rewards.column import stored_reward
from aloll_cli.rewards.variation import spread, varies

if TYPE_CHECKING:
    from aloll_cli.arrays import FloatArray

DIGITS = 8  # hexadecimal ones of a hash, for one number


class Prompts(Enum):
    """The prompts of the train split that a model is fitted on, as an interval of a hash of the prompt."""

    first_half = (0, 0.5)
    second_half = (0.5, 1)
    all = (0, 1)

    def of(self, rows: Sequence[Row]) -> list[Row]:
        """The rows of these prompts."""
        lo, hi = self.value
        return [row for row in rows if lo <= share(row.group) < hi]

    @property
    def others(self) -> Prompts | None:
        """The other half; None if there are no other prompts."""
        return {Prompts.first_half: Prompts.second_half, Prompts.second_half: Prompts.first_half}.get(self)


def share(group: str, number: int = 0) -> float:
    """A number in [0, 1) by a hash of its own: the prompt's hash decides on its split and its fold already.

    Args:
        group: identity of the prompt.
        number: up to 7; which one of several independent numbers.
    """
    digits = hashlib.sha256(group.encode()).hexdigest()[DIGITS * number : DIGITS * (number + 1)]
    return int(digits, 16) / 16.0**DIGITS


def with_reward(rows: Sequence[Row], split: str) -> list[Row]:
    """The rows with a stored reward. Raises UserError if there are none."""
    found = [row for row in rows if row.stored is not None]
    if not found:
        raise NoStoredReward(
            f"no response of the {split} split has a stored reward to fit on.",
            "Name the column of the reward (task=local: task.columns.reward, task=comet: task.reward_column), or choose a reward "
            "that needs none: reward=vader",
        )
    return found


def check_labels(rows: Sequence[Row], asked_by: str, instead: str) -> None:
    """Raises UserError unless every stored reward is 0 or 1.

    Args:
        rows: with stored rewards.
        asked_by: the option that needs labels.
        instead: the option for other numbers.
    """
    other = next((row for row in rows if stored_reward(row) not in (0, 1)), None)
    if other is not None:
        raise UserError(f"example {other.id}: {asked_by} expected a stored label of 0 or 1, got {other.stored}.", instead)


def check_variation(stored: FloatArray, name: str) -> None:
    """Raises UserError if (N,) stored rewards are all the same to rounding; ``name`` is the reward to be fitted."""
    if not varies(stored):
        raise UserError(
            f"{name} has nothing to learn: the stored rewards of {len(stored)} responses are {spread(stored)}.",
            "Name another column (task.columns.reward=COLUMN), or choose a reward that needs none: reward=vader",
        )
