"""The base class of public forms of rows, and what forms have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from aloll_cli.tasks.asked import turns_in
from aloll_cli.tasks.base import BadRow, expected
from aloll_cli.tasks.turns import answered, openai

if TYPE_CHECKING:
    from aloll_cli.tasks.column_names import Columns

Row = dict[str, Any]


class Form(ABC):
    """A form of rows."""

    what: ClassVar[str]  # its name for people, with its columns
    columns: ClassVar[tuple[str, ...]]  # that a row of the form has

    def fits(self, row: Row, names: Columns) -> bool:
        """Whether a row has the form."""
        return all(row.get(column) is not None for column in self.columns)

    @abstractmethod
    def read(self, row: Row, names: Columns) -> Row:
        """The row with the columns of task=local. Raises BadRow."""

    def told(self, row: Row, names: Columns) -> str:
        """What a row is read as, for people."""
        return self.what

    def scores(self, row: Row, names: Columns) -> tuple[str, ...]:
        """The columns that rate the responses of a preference; empty where the row has none, and for other forms."""
        return ()

    def sources(self, row: Row, names: Columns) -> Row:
        """The columns of a row that those of task=local are read from where they have other names, for messages."""
        return {}

    def unread(self, row: Row, names: Columns) -> tuple[str, ...]:
        """The columns under the names of task=local that the form leaves unread."""
        return ()


def response_in(row: Row, name: str) -> Any:
    """A column's response: text, or a list of texts; a turn of the assistant, or a chat of one such turn, gives its text."""
    value = turns_in(row, name)
    is_turns = isinstance(value, dict) or (isinstance(value, list) and any(isinstance(turn, dict) for turn in value))
    return said_by_assistant(value, name) if is_turns else value


def said_by_assistant(value: Any, name: str, place: int = 1) -> Any:
    """A response: text, a turn of the assistant, or a chat of one such turn, which is at some place of its chat."""
    turns = openai([value], name) if isinstance(value, dict) else value
    if not isinstance(turns, list):
        return turns
    if len(turns) != 1 or not isinstance(turns[0], dict) or turns[0].get("role") != "assistant":
        raise BadRow(expected("text, or one turn of the assistant", value, name))
    return answered(turns[0], place, name)


def without(row: Row, names: Columns, *columns: str) -> Row:
    """The row without columns that were read; a column of the user's naming stays."""
    return {column: value for column, value in row.items() if column not in columns or column in names.named}
