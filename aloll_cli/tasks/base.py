"""The base class of tasks: where rows come from, and how one row becomes records (prompt parts and a response)."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from math import isfinite
from numbers import Real
from typing import Any, ClassVar, TypedDict

from aloll_cli.errors import UserError
from aloll_cli.schema import COUNT, EXAMPLES, OPERATIONAL, SEED, numbers
from aloll_cli.tasks.column_names import STANDARD, Columns
from aloll_cli.tasks.layouts import SPLIT_NAMES
from aloll_cli.tasks.options import Chat, OnBadRow, Responses, Truncated, Unrated
from aloll_cli.tasks.reading import Reading
from aloll_cli.tasks.source import HubSource, LocalSource, Source
from aloll_cli.tasks.splits import drawn_split, prompt_key

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|infinity|nan)", re.ASCII | re.IGNORECASE)
SPLITS = ("train", "validation", "test")
ROLES = ("system", "user", "assistant")  # of a chat's turns, as chat templates know them
LEAVE_OUT = "Leave such rows out with task.on_bad_row=skip, or correct the file."


@dataclass(frozen=True)
class Part:
    """A piece of a prompt.

    A prompt whose parts all have a role is a chat: a chat template puts its control tokens around the texts. An empty
    assistant turn at the end marks where the response begins.

    Attributes:
        text: its text, without a speaker tag.
        role: one of ROLES for a turn of a chat; None for plain text.
        drop: order in which parts are cut from an over-long prompt (lowest first, then from the left); None: last.
        whole: whether it is dropped whole, or token by token from the left. With a chat template turns are dropped whole, the
            system turn last, and the last turn is cut from the left.
        eos: whether an end-of-sequence token follows, in plain text; shown to people as a line break.
        prefix: the speaker tag before it, in plain text.
        source: whether it is knowledge for the response; evaluate measures how much responses copy from it.
    """

    text: str
    role: str | None = None
    drop: int | None = 0
    whole: bool = False
    eos: bool = False
    prefix: str = ""
    source: bool = False

    def __post_init__(self) -> None:
        """Raises BadRow for a field of another type, and for another role."""
        unicode(self.text, "Part.text")
        unicode(self.prefix, "Part.prefix")
        if self.role is not None and self.role not in ROLES:
            raise BadRow(expected(f"{', '.join(ROLES)} or None", self.role, "Part.role"))
        if self.drop is not None and not isinstance(self.drop, int):
            raise BadRow(expected("an integer or None", self.drop, "Part.drop"))


class Turn(TypedDict):
    """A chat message: the role of the speaker, and the text without a speaker tag."""

    role: str
    content: str


@dataclass(frozen=True)
class Record:
    """One response to one prompt, as a row gives it, before any token is cut.

    Attributes:
        parts: the prompt.
        response: its text, stripped and cleaned, as it follows the prompt: with the task's separator.
        reward: the reward stored in the data, or None.
        position: its index among the responses of its row, from 0.
        subset: the part of the data that the row comes from, or None; evaluate also reports each part separately.
        split: the split that the row names, or None; used where the source is not split into files.
    """

    parts: tuple[Part, ...]
    response: str
    reward: float | None = None
    position: int = 0
    subset: str | None = None
    split: str | None = None

    def __post_init__(self) -> None:
        """Raises BadRow for a field of another type, and for a reward that is not finite."""
        if not isinstance(self.parts, tuple | list) or not all(isinstance(part, Part) for part in self.parts):
            raise BadRow(expected("a tuple of Part", self.parts, "Record.parts"))
        unicode(self.response, "Record.response")
        if self.reward is not None and (
            isinstance(self.reward, bool) or not isinstance(self.reward, Real) or not isfinite(self.reward)
        ):
            raise BadRow(expected("a finite number or None", self.reward, "Record.reward"))
        if not isinstance(self.position, int):
            raise BadRow(expected("an integer", self.position, "Record.position"))
        if self.subset is not None:
            unicode(self.subset, "Record.subset")
        if self.split not in (None, *SPLITS):
            raise BadRow(expected(f"{', '.join(SPLITS)} or None", self.split, "Record.split"))

    @cached_property
    def prompt(self) -> str:
        """The prompt as plain text, without a chat template."""
        return plain_prompt([vars(part) for part in self.parts])

    @cached_property
    def group(self) -> str:
        """The prompt's identity: 16 hexadecimal digits of its text."""
        return prompt_key(self.prompt)


def turns(parts: Sequence[Mapping[str, Any]]) -> list[Turn]:
    """The chat turns of a prompt's parts (fields of Part), without speaker tags; plain text counts as a user's turn."""
    return [Turn(role=part["role"] or "user", content=part["text"]) for part in parts]


class BadRow(Exception):
    """A row that the task cannot read: the field, what was expected, what was found, and what to do about it."""

    def __init__(self, what: str, hint: str = LEAVE_OUT) -> None:
        super().__init__(what)
        self.hint = hint


class Dropped(Exception):
    """A row that the task leaves out by its own rules; the reasons are counted."""


@dataclass(kw_only=True)
class Task(ABC):
    """Where rows come from, and how to read them."""

    path: str | None = field(
        metadata=OPERATIONAL
    )  # local rows instead of the hub's; the recipe holds their content, not their path
    on_bad_row: OnBadRow
    subsets: list[str] | None = field(metadata=EXAMPLES)  # rewards and tokenizers are fitted on all subsets
    unrated: Unrated = field(metadata=EXAMPLES)
    min_reward: float | None = field(metadata=EXAMPLES | numbers("(-inf, inf)"))
    max_reward: float | None = field(metadata=EXAMPLES | numbers("(-inf, inf)"))
    responses: Responses = field(metadata=EXAMPLES)
    limit: int | None = field(metadata=EXAMPLES | COUNT)
    limit_eval: int | None = field(metadata=EXAMPLES | COUNT)
    noise: float = field(metadata=EXAMPLES | numbers("[0, 1)", 0.25))
    noise_seed: int = field(metadata=EXAMPLES | SEED)
    max_prompt_tokens: int = field(metadata=EXAMPLES | COUNT)
    max_response_tokens: int = field(metadata=EXAMPLES | COUNT)  # without the end-of-sequence token
    truncated: Truncated = field(metadata=EXAMPLES)
    chat: Chat = field(metadata=EXAMPLES)
    stop: list[str] = field(metadata=EXAMPLES)  # generated text ends before the first of these

    version: ClassVar[int] = 1  # to be increased when a change of the code changes results

    hub: ClassVar[str | None] = None
    hub_revision: ClassVar[str | None] = None  # if not the default branch
    licence: ClassVar[str | None] = None  # of the public data set, for model cards
    download: ClassVar[str] = "this task has no public data set"  # why task.path is needed, and what to put there

    def __post_init__(self) -> None:
        if self.min_reward is not None and self.max_reward is not None and self.min_reward > self.max_reward:
            raise UserError(
                f"task.min_reward={self.min_reward:g} is above task.max_reward={self.max_reward:g}: no response lies between.",
                "task.min_reward=null, or task.max_reward=null",
            )
        if self.subsets == []:
            raise UserError("task.subsets is empty: no response would be left.", "task.subsets=null")
        if "" in self.stop:
            raise UserError("task.stop contains an empty string: every response would be empty.", "task.stop=[]")

    @abstractmethod
    def records(self, row: dict[str, Any]) -> Sequence[Record]:
        """The responses of one row.

        Raises:
            BadRow: a field is missing or of the wrong kind.
            Dropped: the task leaves such rows out.
        """

    def separator(self, prompt: str, response: str, is_chat: bool) -> str:
        """What :meth:`records` puts between a prompt and a response: a space or nothing. Rewards read the response without it.

        Args:
            prompt: the whole prompt as plain text.
            response: the response as its row has it.
            is_chat: whether the prompt consists of chat turns.
        """
        return ""

    @property
    def prompt_columns(self) -> Columns:
        """The names of the columns of prompts, in rows that somebody has in a file."""
        return STANDARD

    def asked(self, text: str) -> Sequence[Part]:
        """The prompt of a text that somebody types: as rows with that text have it."""
        return (Part(text),)

    def conversation(self, messages: Sequence[Turn]) -> Sequence[Part] | None:
        """The prompt of a chat that ends with a turn of the user, with the task's speaker tags; None for a task of texts."""
        return None

    def describe(self, row: dict[str, Any]) -> list[str]:
        """Lines on how such rows are read, where that is not plain from the options. Raises BadRow and Dropped."""
        return []

    def reading(self) -> Reading:
        """What reads the rows one after another, and says at their end how all of them were read."""
        return Reading(self)

    def source(self) -> Source:
        """Where to read the rows."""
        if self.path is not None:
            return LocalSource(self.path)
        if self.hub is None:
            raise UserError(f"task.path is not set, and {self.download}.", "task.path=FOLDER")
        return HubSource(self.hub, self.hub_revision)

    @property
    def shares(self) -> tuple[float, float]:
        """The shares of validation and test prompts in sources without splits."""
        return 0.05, 0.05

    def split_of(self, prompt: str) -> str:
        """The split of a prompt, by its hash, for sources without splits."""
        return drawn_split(prompt, *self.shares)

    def how_to_fill(self, split: str) -> str:
        """The hint for a split that got no rows in a source without splits."""
        validation, test = self.shares
        train = 1 - validation - test
        return (
            f"Prompts are split by their hash ({100 * train:g}% train, {100 * validation:g}% validation, {100 * test:g}% test): "
            "add rows with other prompts, or use a folder with one file per split."
        )


def plain_prompt(parts: Sequence[dict[str, Any]]) -> str:
    """A prompt's parts (fields of Part) as plain text, with a line break for each end-of-sequence token."""
    return "".join(part["prefix"] + part["text"] + "\n" * part["eos"] for part in parts)


def text_field(row: dict[str, Any], name: str) -> str:
    """A field that must be text."""
    if name not in row:
        found = f"the fields {shown(', '.join(row))}" if row else "no fields"
        raise BadRow(f'field "{name}" is missing; the row has {found}')
    return unicode(row[name], name)


def unicode(text: Any, name: str) -> str:
    """The text, checked to be text and valid UTF-8: JSON escapes can also encode half of a surrogate pair."""
    if not isinstance(text, str):
        raise BadRow(expected("text", text, name))
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadRow(f'field "{name}" contains half of a surrogate pair, which is not a character') from None
    return text


def split_name(value: Any, name: str) -> str:
    """The split that a field names."""
    if value not in list(SPLIT_NAMES):
        raise BadRow(expected(f"one of {', '.join(SPLIT_NAMES)}", value, name))
    return SPLIT_NAMES[value]


def number(value: Any, name: str) -> float:
    """A value that must be a finite number, or text that can be read as one."""
    try:
        if isinstance(value, bool) or not isinstance(value, int | float | Decimal | str):
            raise ValueError
        if isinstance(value, str) and not NUMBER.fullmatch(value.strip()):
            raise ValueError  # Python reads 1_000 and Arabic digits, too
        found = float(value)
    except (ValueError, OverflowError):
        raise BadRow(expected("a number", value, name)) from None
    if not isfinite(found):
        raise BadRow(expected("a finite number", value, name))
    return found


def expected(what: str, value: Any, name: str) -> str:
    """The message about a field with a wrong value."""
    return f'field "{name}": expected {what}, got {shown(value)}'


def shown(value: Any) -> str:
    """A value as error messages quote it, shortened to 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
