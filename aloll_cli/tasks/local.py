"""Your own data, from a file, a folder or a data set on the hub.

A text to continue: ``{"prompt": "Dear customer,", "response": "we are sorry.", "reward": 0.3}``
A chat: ``{"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi!"}], "response": "Hello."}``
Several responses to a prompt: rows with the same prompt, or ``{"prompt": "2 + 2 =", "response": ["4", "5"], "reward": [1, 0]}``
Other public forms: tasks/forms.py
"""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from itertools import islice
from statistics import fmean
from typing import Any, ClassVar

from aloll_cli.errors import UserError
from aloll_cli.metrics.words import LETTERS, is_spaced, letter_shares
from aloll_cli.schema import OPERATIONAL, numbers
from aloll_cli.tasks.base import BadRow, Part, Record, Task, expected, number, prompt_share, split_name, text_field, unicode
from aloll_cli.tasks.forms import FORMS, standard
from aloll_cli.tasks.source import SPLIT_NAMES, HubSource, Source
from aloll_cli.tasks.turns import chat_parts, said

SCRIPT_ROWS = 1000  # of each split, from which the script of the data is told
OPTIONAL = ("messages", "reward")  # columns that may be missing, unless the user has named them


class Combine(Enum):
    """How several reward columns become one reward."""

    mean = "their mean"
    sum = "their sum"


class Seam(Enum):
    """What is put between a prompt that is text and the response."""

    auto = "a space, but none where there is white space already or the script has no spaces between words"
    space = "always a space"
    none = "nothing: the data hold what belongs there"


@dataclass(kw_only=True)
class SplitShares:
    """The shares of the prompts that go to validation and test where one file is split."""

    validation: float = field(metadata=numbers("(0, 0.5]", 0.05))
    test: float = field(metadata=numbers("(0, 0.5)", 0.05))


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

    version: ClassVar[int] = 2  # no second white space between prompt and response

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

    def split_of(self, prompt: str) -> str:
        share, shares = prompt_share(prompt), self.split_shares
        return "validation" if share < shares.validation else "test" if share < shares.validation + shares.test else "train"

    def how_to_fill(self, split: str) -> str:
        if self.columns.split is None:
            return super().how_to_fill(split)
        names = ", ".join(name for name, meant in SPLIT_NAMES.items() if meant == split)
        return f'Mark its rows in the column "{self.columns.split}": {names}.'

    def records(self, row: dict[str, Any]) -> Sequence[Record]:
        row, _ = standard(row, self.columns)
        row = self._with_response(row)
        messages = self._value(row, self.columns.messages, "messages")
        responses = self._responses(row)
        rewards = self._rewards(row, len(responses))
        if messages is None:
            self._value(row, self.columns.prompt, "prompt")
            prompt = text_field(row, self.columns.prompt)
            parts: tuple[Part, ...] = (Part(prompt),)
            responses = [self._seam(prompt, response) + response for response in responses]
        elif row.get(self.columns.prompt) is not None:
            names = f'"{self.columns.prompt}" and "{self.columns.messages}"'
            raise BadRow(f"fields {names} are both set; expected one of them")
        else:
            parts = chat_parts(messages, self.columns.messages)
        pairs = zip(responses, rewards, strict=True)
        split = self._split(row)
        return [Record(parts, response, reward, place, split=split) for place, (response, reward) in enumerate(pairs)]

    def describe(self, row: dict[str, Any]) -> list[str]:
        standardized, form = standard(row, self.columns)
        lines = [f"rows are read as {form.what}"] if form else []
        if standardized.get(self.columns.messages) is not None:
            return lines
        record = self.records(row)[0]
        added = len(record.response) - len(record.response.removeprefix(" "))
        between = "a space" if added else "nothing"
        return [*lines, f"between the first prompt and its response stands {between} (task.seam={self.seam.name})"]

    def _with_response(self, row: dict[str, Any]) -> dict[str, Any]:
        """The row; without a response, the last assistant turn of the chat becomes the response."""
        name, messages = self.columns.response, row.get(self.columns.messages)
        if row.get(name) is not None or not (name == "response" or name in row) or not isinstance(messages, list) or not messages:
            return row
        last = messages[-1]
        if not isinstance(last, dict) or last.get("role") != "assistant":
            return row
        return row | {self.columns.messages: messages[:-1], name: said(last, len(messages), self.columns.messages)}

    def _seam(self, prompt: str, response: str) -> str:
        """What goes between a prompt and its response; a space belongs to the response, as tokenizers expect."""
        if self.seam is not Seam.auto:
            return " " if self.seam is Seam.space else ""
        before, after = prompt[-1:], response[:1]
        touches = before.isspace() or after.isspace() or not prompt
        return "" if touches or not (is_spaced(before) and is_spaced(after) and self.is_spaced) else " "

    @cached_property
    def is_spaced(self) -> bool:
        """Whether the script of the data has spaces between words, by the beginning of every split."""
        names, texts = self.columns, []
        try:
            source = self.source()
        except UserError:
            return True  # whoever reads the rows says what is wrong with them
        for split in source.splits():
            for _, row in islice(source.rows(split), SCRIPT_ROWS):
                values = (row.get(name) for name in (names.prompt, names.response, *(c for form in FORMS for c in form.columns)))
                texts += [value for value in values if isinstance(value, str)]
        shares = letter_shares([texts])
        return shares[LETTERS[1]] + shares[LETTERS[2]] <= 0.5

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
        return [self._worth(v, name) for v in (value if is_list else [value])]

    def _worth(self, value: Any, name: str) -> float | None:
        """The reward that a cell holds: a number, true or false, or one of ``labels``; None if it is empty."""
        if value is None:
            return None
        if isinstance(value, str) and value.strip() in self.labels:
            return float(self.labels[value.strip()])
        if isinstance(value, bool) or (isinstance(value, str) and value.strip().lower() in ("true", "false")):
            return float(str(value).strip().lower() == "true")
        try:
            return number(value, name)
        except BadRow as error:
            if not isinstance(value, str) or not value.strip():
                raise
            known = f" or one of {', '.join(self.labels)}" if self.labels else ""
            if any(map(str.isdigit, value)):
                hint = "Write numbers like 0.5, or leave such rows out: task.on_bad_row=skip"
            else:
                hint = (
                    f"Say what such texts are worth, such as {labelled(value.strip())}, or leave them out: task.on_bad_row=skip"
                )
            raise BadRow(str(error).replace("expected a number", f"expected a number{known}"), hint) from None

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


def labels_of(given: Any) -> dict[str, float]:
    """What texts are worth. Raises UserError unless it is given as {text: number} or as a list of "text: number"."""
    if given is None:
        return {}
    pairs = list(given.items()) if isinstance(given, dict) else given
    if isinstance(pairs, list) and not isinstance(given, dict):
        pairs = [tuple(str(item).rpartition(":")[::2]) for item in pairs]
    try:
        return {str(text).strip(): number(worth, "labels") for text, worth in pairs}
    except (BadRow, TypeError, ValueError):
        what = "task.labels: expected what each text is worth, as {text: number}."
        raise UserError(what, "task.labels={up: 1, down: 0}, or task.labels=['up: 1','down: 0']") from None


def labelled(text: str) -> str:
    """The override that gives a text a worth, quoted for a shell."""
    if re.fullmatch(r"[A-Za-z]\w*", text):
        return f'"task.labels={{{text}: 1}}"'
    override = "task.labels=['{}: 1']".format(text.replace("\\", "\\\\").replace("'", "\\'"))
    return f'"{override}"' if set(text).isdisjoint('"$`!\\') else shlex.quote(override)


def quoted(column: str) -> str:
    """A column's name, quoted for an override in a shell."""
    return column if re.fullmatch(r"[\w.-]+", column) else shlex.quote('"' + column.replace('"', '\\"') + '"')
