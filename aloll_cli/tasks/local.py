"""Rows of one's own, from a file, a folder or a data set of the hub.

A text to continue: ``{"prompt": "Dear customer,", "response": "we are sorry.", "reward": 0.3}``
A chat: ``{"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi!"}], "response": "Hello."}``
Several responses to a prompt: rows that repeat it, or ``{"prompt": "2 + 2 =", "response": ["4", "5"], "reward": [1, 0]}``
"""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from statistics import fmean
from typing import Any

from aloll_cli.errors import UserError
from aloll_cli.schema import OPERATIONAL
from aloll_cli.tasks.base import BadRow, Part, Record, Task, number, shown, split_name, text_field, unicode
from aloll_cli.tasks.source import SPLIT_NAMES, HubSource, Source

TAGS = {"system": "System:\n", "user": "User:\n", "assistant": "Assistant:\n"}  # where no template shows the turns
OPTIONAL = ("messages", "reward")  # columns that need not be there under these names; under another one they must


class Combine(Enum):
    """What becomes of several reward columns."""

    mean = "their mean"
    sum = "their sum"


@dataclass(kw_only=True)
class Columns:
    """What the columns are called."""

    prompt: str
    messages: str
    response: str
    reward: Any  # one name, or a list of several
    split: str | None

    def __post_init__(self) -> None:
        if not self.rewards or not all(isinstance(name, str) for name in self.rewards):
            raise UserError(
                "task.columns.reward must be the name of a column, or a list of several.", "task.columns.reward=score"
            )
        if twice := next((name for name in self.named if self.named.count(name) > 1), None):
            raise UserError(f"task.columns gives two meanings to {twice}.", "Name each column once.")

    @property
    def named(self) -> list[str]:
        """Every name that has a meaning."""
        return [self.prompt, self.messages, self.response, *self.rewards, *([self.split] if self.split else [])]

    @property
    def rewards(self) -> list[Any]:
        """The names of the reward columns."""
        return self.reward if isinstance(self.reward, list) else [self.reward]


@dataclass(kw_only=True)
class Local(Task):
    """Your own rows: a prompt to continue or the messages of a chat, a response, and a reward where there is one."""

    hub: str | None = field(metadata=OPERATIONAL)  # type: ignore[misc]  # its revision is what counts
    columns: Columns
    combine: Combine

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.path is None) == (self.hub is None):
            what = "task=local needs rows" if self.path is None else "task.path and task.hub are both set"
            raise UserError(
                f"{what}: either task.path or task.hub must be set.", "task.path=FILE.jsonl (or FOLDER), or task.hub=OWNER/NAME"
            )

    def source(self) -> Source:
        if self.hub is not None:
            return HubSource(self.hub)
        found = super().source()
        if self.columns.split is not None and len(found.splits()) > 1:
            raise UserError(
                f"task.columns.split={self.columns.split}, but the files of task.path are splits already.",
                "task.columns.split=null, or one file: task.path=FILE",
            )
        return found

    def how_to_fill(self, split: str) -> str:
        if self.columns.split is None:
            return super().how_to_fill(split)
        names = ", ".join(name for name, meant in SPLIT_NAMES.items() if meant == split)
        return f'Rows for it say so in the column "{self.columns.split}": {names}.'

    def records(self, row: dict[str, Any]) -> Sequence[Record]:
        row = self._answered(row)
        messages = self._value(row, self.columns.messages, "messages")
        responses = self._responses(row)
        rewards = self._rewards(row, len(responses))
        if messages is None:
            self._value(row, self.columns.prompt, "prompt")
            # the space belongs to the response, as the tokenizer sees words
            parts: tuple[Part, ...] = (Part(text_field(row, self.columns.prompt)),)
            responses = [" " + response for response in responses]
        elif row.get(self.columns.prompt) is not None:
            names = f'"{self.columns.prompt}" and "{self.columns.messages}"'
            raise BadRow(f"fields {names} are both there; one of them is needed")
        else:
            parts = chat_parts(messages, self.columns.messages)
        pairs = zip(responses, rewards, strict=True)
        split = self._split(row)
        return [Record(parts, response, reward, place, split=split) for place, (response, reward) in enumerate(pairs)]

    def _answered(self, row: dict[str, Any]) -> dict[str, Any]:
        """The row; where a chat ends with what the assistant said and no response is given, that is the response."""
        name, messages = self.columns.response, row.get(self.columns.messages)
        if row.get(name) is not None or not (name == "response" or name in row) or not isinstance(messages, list) or not messages:
            return row
        last = messages[-1]
        if not isinstance(last, dict) or last.get("role") != "assistant":
            return row
        return row | {self.columns.messages: messages[:-1], name: last.get("content")}

    def _split(self, row: dict[str, Any]) -> str | None:
        name = self.columns.split
        return None if name is None else split_name(self._value(row, name, "split"), name)

    def _responses(self, row: dict[str, Any]) -> list[str]:
        name = self.columns.response
        value = self._value(row, name, "response")
        if not isinstance(value, list):
            return [text_field(row, name)]
        if not value or not all(isinstance(text, str) for text in value):
            raise BadRow(f'field "{name}" is {shown(value)}; texts are needed')
        return [unicode(text, name) for text in value]

    def _rewards(self, row: dict[str, Any], count: int) -> Sequence[float | None]:
        """One number a response: that of the column, or the several columns' combined; None where none is stored."""
        columns = [self._column(row, name, count) for name in self.columns.rewards]
        together = fmean if self.combine is Combine.mean else sum
        found: list[float | None] = []
        for stored in zip(*columns, strict=True):
            values = [value for value in stored if value is not None]
            if 0 < len(values) < len(stored):
                name = self.columns.rewards[stored.index(None)]
                raise BadRow(f'field "{name}" is None; a number is needed beside {", ".join(self.columns.rewards)}')
            found.append(together(values) if len(values) > 1 else values[0] if values else None)
        return found

    def _column(self, row: dict[str, Any], name: str, count: int) -> list[float | None]:
        value = self._value(row, name, "reward")
        is_list = isinstance(row.get(self.columns.response), list)
        if value is None:
            return [None] * count
        if is_list != isinstance(value, list) or (is_list and len(value) != count):
            what = f'{count} numbers are needed, one for each of "{self.columns.response}"' if is_list else "a number is needed"
            raise BadRow(f'field "{name}" is {shown(value)}; {what}')
        return [number(v, name) for v in value] if is_list else [number(value, name)]

    def _value(self, row: dict[str, Any], name: str, meaning: str) -> Any:
        """A column's value; None where one that need not be there is not."""
        if name not in row and not (name == meaning and meaning in OPTIONAL):
            there = ", ".join(map(str, row)) or "none"
            raise BadRow(
                f"field \"{name}\" is missing; there are '{there[:200]}'",
                f"{self._where(row, name, meaning)}, or leave such rows out: task.on_bad_row=skip",
            )
        return row.get(name)

    def _where(self, row: dict[str, Any], name: str, meaning: str) -> str:
        """Where a missing column may be."""
        if meaning == "response" and isinstance(row.get(self.columns.messages), list):
            return f'Give the answer as a last turn of the assistant, or in a column of its own: "{name}"'
        if len(row) == 1 and (sign := next((sign for sign in ";\t|" if sign in next(iter(row))), None)):
            return f"Separate columns by commas, not by {sign!r}"
        free = [column for column in row if column not in self.columns.named]
        likely = free if len(free) == 1 else difflib.get_close_matches(name, free, n=1)
        return f"Name it: task.columns.{meaning}={quoted(likely[0]) if likely else 'COLUMN'}"


def quoted(column: str) -> str:
    """A column's name as an override takes it in a shell."""
    return column if re.fullmatch(r"[\w.-]+", column) else shlex.quote('"' + column.replace('"', '\\"') + '"')


def chat_parts(messages: Any, name: str = "messages") -> tuple[Part, ...]:
    """The parts of a chat's prompt: what the system said stays, the oldest turns give way first."""
    if not isinstance(messages, list) or not messages:
        raise BadRow(f'field "{name}" is {shown(messages)}; a list of turns is needed')
    turns = [_turn(message, place, name) for place, message in enumerate(messages, start=1)]
    if (last := turns[-1][0]) != "user":
        raise BadRow(f'field "{name}" ends with a turn of the {last}; the user must speak last, and the answer be "response"')
    parts = [
        Part(text, role, drop=None if role == "system" else 0, prefix="\n\n" * (i > 0) + TAGS[role])
        for i, (role, text) in enumerate(turns)
    ]
    return (*parts, Part("", "assistant", drop=None, prefix="\n\n" + TAGS["assistant"]))


def _turn(message: Any, place: int, name: str) -> tuple[str, str]:
    if not isinstance(message, dict):
        raise BadRow(f'field "{name}", turn {place} is {shown(message)}; {{"role": …, "content": …}} is needed')
    role, content = message.get("role"), message.get("content")
    if role not in list(TAGS):
        raise BadRow(f'field "{name}", turn {place}: "role" is {shown(role)}; {", ".join(TAGS)} are known')
    if not isinstance(content, str):
        raise BadRow(f'field "{name}", turn {place}: "content" is {shown(content)}; text is needed')
    return role, unicode(content, name)
