"""The rows of a data set read one after another, and what is to be said of all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aloll_cli.tasks.base import Record, Task


class Reading:
    """Reads the rows of a task; of as many rows as there are, it keeps figures only."""

    def __init__(self, task: Task) -> None:
        self.task = task

    def records(self, row: dict[str, Any], split: str) -> Sequence[Record]:
        """The responses of a row.

        Args:
            row: the row.
            split: the split of the source that it is in; "all" if the source has only one.

        Raises:
            BadRow, Dropped: as ``Task.records``.
        """
        return self.task.records(row)

    def told(self) -> list[str]:
        """Lines on how the rows so far were read, where that is not plain from the options."""
        return []

    def warnings(self, place: Callable[[str], str]) -> list[str]:
        """What is doubtful in the rows so far.

        Args:
            place: gives the place of a split, for messages.

        Raises:
            UserError: they contradict themselves.
        """
        return []
