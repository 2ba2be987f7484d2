"""Your own data, from a file, a folder or a data set on the hub.

A text to continue: ``{"prompt": "Dear customer,", "response": "we are sorry.", "reward": 0.3}``
A chat: ``{"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi!"}], "response": "Hello."}``
Several responses to a prompt: rows with the same prompt, or ``{"prompt": "2 + 2 =", "response": ["4", "5"], "reward": [1, 0]}``
Other public forms: tasks/forms.py
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from itertools import islice
from statistics import fmean
from typing import Any, ClassVar

from aloll_cli.errors import UserError
from aloll_cli.schema import OPERATIONAL, numbers
from aloll_cli.tasks.base import BadRow, Part, Record, Task, Turn, expected, split_name, text_field, unicode
from aloll_cli.tasks.column_names import Columns, listed
from aloll_cli.tasks.forms import FORMS, standard
from aloll_cli.tasks.labels import labels_of, worth
from aloll_cli.tasks.layouts import SPLIT_NAMES
from aloll_cli.tasks.local_reading import LocalReading
from aloll_cli.tasks.reading import Reading
from aloll_cli.tasks.remarks import more_on
from aloll_cli.tasks.seam import Seam, between, script_has_spaces
from aloll_cli.tasks.source import HubSource, Source
from aloll_cli.tasks.turns import answered, chat_parts

SCRIPT_ROWS = 1000  # of each split, from which the script of the data is told
NAMED = r'(field|each of) "([^"]+)"'  # a column in a message
OPTIONAL = ("messages", "reward")  # columns that may be missing, unless the user has named them


class Combine(Enum):
    """How several reward columns become one reward."""

    mean = "their mean"
    sum = "their sum"


@dataclass(kw_only=True)
class SplitShares:
    """The shares of the prompts that go to validation and test where one file is split."""

    validation: float = field(metadata=numbers("(0, 0.5]", 0.05))
    test: float = field(metadata=numbers("(0, 0.5)", 0.05))


@dataclass(kw_only=True)
class Local(Task):
    """Your own data: a prompt to continue or a chat, a response, and optionally a reward."""

    version: ClassVar[int] = 7  # null columns count for nothing; float32 is read as the decimal that was written

    hub: str | None = field(metadata=OPERATIONAL)  # type: ignore[misc]  # the recipe holds the resolved revision
    columns: Columns
    combine: Combine
    labels: Any  # what texts in the reward column are worth: {text: number}, or a list of "text: number"; None: none
    seam: Seam
    split_shares: SplitShares

    def __post_init__(self) -> None:
        super().__post_init__()
        self.labels = labels_of(self.labels)
        if (self.path is None) == (self.hub is None):
            what = "task=local needs data" if self.path is None else "task.path and task.hub are both set"
            raise UserError(
                f"{what}: set either task.path or task.hub.", "task.path=FILE.jsonl (or FOLDER), or task.hub=OWNER/NAME"
            )

    @property
    def prompt_columns(self) -> Columns:
        return self.columns

    def source(self) -> Source:
        if self.hub is not None:
            return HubSource(self.hub)
        found = super().source()
        if self.columns.split is not None and len(found.splits()) > 1:
            raise UserError(
                f"task.columns.split={self.columns.split}, but task.path already has one file per split.",
                "task.columns.split=null, or one file: task.path=FILE",
            )
        return found

    @property
    def shares(self) -> tuple[float, float]:
        return self.split_shares.validation, self.split_shares.test

    def how_to_fill(self, split: str) -> str:
        if self.columns.split is None:
            more = "task.split_shares.validation=0.2 task.split_shares.test=0.2"
            return f"{super().how_to_fill(split)} Larger shares: {more}"
        names = ", ".join(name for name, meant in SPLIT_NAMES.items() if meant == split)
        return f'Mark its rows in the column "{self.columns.split}": {names}.'

    def records(self, row: dict[str, Any]) -> Sequence[Record]:
        read, form = standard(row, self.columns)
        try:
            return self._records(read)
        except BadRow as error:  # names columns of task=local, and not those that people wrote
            sources = form.sources(row, self.columns) if form else {}
            told = re.sub(NAMED, lambda found: f'{found[1]} "{sources.get(found[2], found[2])}"', str(error))
            raise BadRow(told, error.hint) from None

    def _records(self, row: dict[str, Any]) -> Sequence[Record]:
        """The responses of a row with the columns of task=local."""
        row = self._with_response(row)
        messages = self._value(row, self.columns.messages, "messages")
        responses = self._responses(row)
        rewards = self._rewards(row, len(responses))
        if messages is None:
            self._value(row, self.columns.prompt, "prompt")
            prompt = text_field(row, self.columns.prompt)
            parts: tuple[Part, ...] = (Part(prompt),)
            responses = [self.separator(prompt, response, is_chat=False) + response for response in responses]
        elif row.get(self.columns.prompt) is not None:
            names = f'"{self.columns.prompt}" and "{self.columns.messages}"'
            raise BadRow(f"fields {names} are both set; expected one of them")
        else:
            parts = chat_parts(messages, self.columns.messages)
        pairs = zip(responses, rewards, strict=True)
        split = self._split(row)
        return [Record(parts, response, reward, place, split=split) for place, (response, reward) in enumerate(pairs)]

    def separator(self, prompt: str, response: str, is_chat: bool) -> str:
        return "" if is_chat else between(prompt, response, self.seam, lambda: self.is_spaced)

    def conversation(self, messages: Sequence[Turn]) -> Sequence[Part]:
        return chat_parts(messages)

    def describe(self, row: dict[str, Any]) -> list[str]:
        standardized, _ = standard(row, self.columns)
        lines = more_on(row, standardized, self.columns)
        if standardized.get(self.columns.messages) is not None:
            return lines
        adds = self.records(row)[0].response != self._responses(standardized)[0]
        what = "a space" if adds else "nothing"
        return [*lines, f"between the first prompt and its response {what} is added (task.seam={self.seam.name})"]

    def reading(self) -> Reading:
        return LocalReading(self, self.columns)

    def _with_response(self, row: dict[str, Any]) -> dict[str, Any]:
        """The row; without a response, the last assistant turn of the chat becomes the response."""
        name, messages = self.columns.response, row.get(self.columns.messages)
        if row.get(name) is not None or not (name == "response" or name in row) or not isinstance(messages, list) or not messages:
            return row
        last = messages[-1]
        if not isinstance(last, dict) or last.get("role") != "assistant":
            chat_parts(messages, self.columns.messages)  # raises for the turn that may be why there is no response
            if name in row:
                return row
            raise BadRow(
                f'field "{self.columns.messages}" ends with a turn of the user, and there is no "{name}"',
                f"{self.columns.where(row, name, 'response')}, or leave such rows out: task.on_bad_row=skip",
            )
        return row | {self.columns.messages: messages[:-1], name: answered(last, len(messages), self.columns.messages)}

    @cached_property
    def is_spaced(self) -> bool:
        """Whether the script of the data has spaces between words, by the beginning of every split."""
        try:
            source = self.source()
        except UserError:
            return True  # whoever reads the rows says what is wrong with them
        names = {self.columns.prompt, self.columns.response, *(column for form in FORMS for column in form.columns)}
        rows = (row for split in source.splits() for _, row in islice(source.rows(split), SCRIPT_ROWS))
        return script_has_spaces([text for row in rows for name in names if isinstance(text := row.get(name), str)])

    def _split(self, row: dict[str, Any]) -> str | None:
        name = self.columns.split
        return None if name is None else split_name(self._value(row, name, "split"), name)

    def _responses(self, row: dict[str, Any]) -> list[str]:
        name = self.columns.response
        value = self._value(row, name, "response")
        if not isinstance(value, list):
            return [text_field(row, name)]
        if not value or not all(isinstance(text, str) for text in value):
            raise BadRow(expected("a list of texts", value, name))
        return [unicode(text, name) for text in value]

    def _rewards(self, row: dict[str, Any], count: int) -> Sequence[float | None]:
        """One reward per response, from one column or several combined; None where none is stored."""
        columns = [self._column(row, name, count) for name in self.columns.rewards]
        together = fmean if self.combine is Combine.mean else sum
        found: list[float | None] = []
        for stored in zip(*columns, strict=True):
            values = [value for value in stored if value is not None]
            if 0 < len(values) < len(stored):
                name = self.columns.rewards[stored.index(None)]
                raise BadRow(expected(f"a number, as in the other columns of {', '.join(self.columns.rewards)}", None, name))
            found.append(together(values) if len(values) > 1 else values[0] if values else None)
        return found

    def _column(self, row: dict[str, Any], name: str, count: int) -> list[float | None]:
        value = self._value(row, name, "reward")
        is_list = isinstance(row.get(self.columns.response), list)
        if value is None:
            return [None] * count
        if is_list != isinstance(value, list) or (is_list and len(value) != count):
            what = f'{count} numbers, one for each of "{self.columns.response}"' if is_list else "a number"
            raise BadRow(expected(what, value, name))
        return [worth(cell, name, self.labels) for cell in (value if is_list else [value])]

    def _value(self, row: dict[str, Any], name: str, meaning: str) -> Any:
        """A column's value; None if an optional column is missing."""
        if name not in row and not (name == meaning and meaning in OPTIONAL):
            raise BadRow(
                f"field \"{name}\" is missing; the row has the fields '{listed(row)}'",
                f"{self.columns.where(row, name, meaning)}, or leave such rows out: task.on_bad_row=skip",
            )
        return row.get(name)
