"""Your own data, from a file, a folder or a data set on the hub.

A text to continue: ``{"prompt": "Dear customer,", "response": "we are sorry.", "reward": 0.3}``
A chat: ``{"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi!"}], "response": "Hello."}``
Several responses to a prompt: rows with the same prompt, or ``{"prompt": "2 + 2 =", "response": ["4", "5"], "reward": [1, 0]}``
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
from aloll_cli.tasks.base import BadRow, Part, Record, Task, expected, number, shown, split_name, text_field, unicode
from aloll_cli.tasks.source import SPLIT_NAMES, HubSource, Source

TAGS = {"system": "System:\n", "user": "User:\n", "assistant": "Assistant:\n"}  # for plain text, without a chat template
OPTIONAL = ("messages", "reward")  # columns that may be missing, unless the user has named them


class Combine(Enum):
    """How several reward columns become one reward."""

    mean = "their mean"
    sum = "their sum"


@dataclass(kw_only=True)
class Columns:
    """The names of the columns."""

    prompt: str
    messages: str
    response: str
    reward: Any  # one name, or a list of several
    split: str | None

    def __post_init__(self) -> None:
        if not self.rewards or not all(isinstance(name, str) for name in self.rewards):
            raise UserError(
                "task.columns.reward: expected the name of a column, or a list of names.", "task.columns.reward=score"
            )
        if twice := next((name for name in self.named if self.named.count(name) > 1), None):
            raise UserError(f"task.columns uses the column {twice} twice.", "Name each column once.")

    @property
    def named(self) -> list[str]:
        """All column names that are read."""
        return [self.prompt, self.messages, self.response, *self.rewards, *([self.split] if self.split else [])]

    @property
    def rewards(self) -> list[Any]:
        """The names of the reward columns."""
        return self.reward if isinstance(self.reward, list) else [self.reward]


@dataclass(kw_only=True)
class Local(Task):
    """Your own data: a prompt to continue or a chat, a response, and optionally a reward."""

    hub: str | None = field(metadata=OPERATIONAL)  # type: ignore[misc]  # the recipe holds the resolved revision
    columns: Columns
    combine: Combine

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.path is None) == (self.hub is None):
            what = "task=local needs data" if self.path is None else "task.path and task.hub are both set"
            raise UserError(
                f"{what}: set either task.path or task.hub.", "task.path=FILE.jsonl (or FOLDER), or task.hub=OWNER/NAME"
            )

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

    def how_to_fill(self, split: str) -> str:
        if self.columns.split is None:
            return super().how_to_fill(split)
        names = ", ".join(name for name, meant in SPLIT_NAMES.items() if meant == split)
        return f'Mark its rows in the column "{self.columns.split}": {names}.'

    def records(self, row: dict[str, Any]) -> Sequence[Record]:
        row = self._with_response(row)
        messages = self._value(row, self.columns.messages, "messages")
        responses = self._responses(row)
        rewards = self._rewards(row, len(responses))
        if messages is None:
            self._value(row, self.columns.prompt, "prompt")
            # tokenizers attach the space to the word that follows
            parts: tuple[Part, ...] = (Part(text_field(row, self.columns.prompt)),)
            responses = [" " + response for response in responses]
        elif row.get(self.columns.prompt) is not None:
            names = f'"{self.columns.prompt}" and "{self.columns.messages}"'
            raise BadRow(f"fields {names} are both set; expected one of them")
        else:
            parts = chat_parts(messages, self.columns.messages)
        pairs = zip(responses, rewards, strict=True)
        split = self._split(row)
        return [Record(parts, response, reward, place, split=split) for place, (response, reward) in enumerate(pairs)]

    def _with_response(self, row: dict[str, Any]) -> dict[str, Any]:
        """The row; without a response, the last assistant turn of the chat becomes the response."""
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
        return [number(v, name) for v in value] if is_list else [number(value, name)]

    def _value(self, row: dict[str, Any], name: str, meaning: str) -> Any:
        """A column's value; None if an optional column is missing."""
        if name not in row and not (name == meaning and meaning in OPTIONAL):
            there = ", ".join(map(str, row)) or "none"
            raise BadRow(
                f"field \"{name}\" is missing; the row has the fields '{there[:200]}'",
                f"{self._where(row, name, meaning)}, or leave such rows out: task.on_bad_row=skip",
            )
        return row.get(name)

    def _where(self, row: dict[str, Any], name: str, meaning: str) -> str:
        """The hint for a missing column."""
        if meaning == "response" and isinstance(row.get(self.columns.messages), list):
            return f'Add the response as the last assistant turn, or as the column "{name}"'
        if len(row) == 1 and (sign := next((sign for sign in ";\t|" if sign in next(iter(row))), None)):
            return f"Separate columns by commas, not by {sign!r}"
        free = [column for column in row if column not in self.columns.named]
        likely = free if len(free) == 1 else difflib.get_close_matches(name, free, n=1)
        return f"Name it: task.columns.{meaning}={quoted(likely[0]) if likely else 'COLUMN'}"


def quoted(column: str) -> str:
    """A column's name, quoted for an override in a shell."""
    return column if re.fullmatch(r"[\w.-]+", column) else shlex.quote('"' + column.replace('"', '\\"') + '"')


def chat_parts(messages: Any, name: str = "messages") -> tuple[Part, ...]:
    """The parts of a chat prompt; an over-long one drops its oldest turns, but no system turn."""
    if not isinstance(messages, list) or not messages:
        raise BadRow(expected("a list of turns", messages, name))
    turns = [_turn(message, place, name) for place, message in enumerate(messages, start=1)]
    if (last := turns[-1][0]) != "user":
        raise BadRow(
            f'field "{name}" ends with a turn of the {last}; expected a turn of the user, and the response in "response"'
        )
    parts = [
        Part(text, role, drop=None if role == "system" else 0, prefix="\n\n" * (i > 0) + TAGS[role])
        for i, (role, text) in enumerate(turns)
    ]
    return (*parts, Part("", "assistant", drop=None, prefix="\n\n" + TAGS["assistant"]))


def _turn(message: Any, place: int, name: str) -> tuple[str, str]:
    if not isinstance(message, dict):
        raise BadRow(f'field "{name}", turn {place}: expected {{"role": …, "content": …}}, got {shown(message)}')
    role, content = message.get("role"), message.get("content")
    if role not in list(TAGS):
        raise BadRow(f'field "{name}", turn {place}: expected "role" to be one of {", ".join(TAGS)}, got {shown(role)}')
    if not isinstance(content, str):
        raise BadRow(f'field "{name}", turn {place}: expected "content" to be text, got {shown(content)}')
    return role, unicode(content, name)
