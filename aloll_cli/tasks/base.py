"""What a task is: a source of rows, and how one row becomes records of prompt parts and a response."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from math import isfinite
from typing import Any, ClassVar, TypedDict

from aloll_cli.errors import UserError
from aloll_cli.schema import COUNT, EXAMPLES, OPERATIONAL, SEED, numbers
from aloll_cli.tasks.source import SPLIT_NAMES, HubSource, LocalSource, Source

SPLITS = ("train", "validation", "test")


class Responses(Enum):
    """Which responses to a prompt are learned from."""

    all = "every one"
    best = "the one with the highest stored reward"
    worst = "the one with the lowest stored reward"
    first = "the first of each row: what people chose, where the data has that"


class Truncated(Enum):
    """What becomes of a response that is longer than the limit."""

    keep = "learn from its beginning, without an end-of-sequence token"
    drop = "leave it out"


class Chat(Enum):
    """How a prompt made of chat turns is shown to the model."""

    template = "by the tokenizer's chat template, where it has one; else as plain text"
    without_thinking = "by the template, told enable_thinking=False"
    plain = "as plain text, with the task's tags"


class OnBadRow(Enum):
    """What becomes of a row that cannot be read."""

    error = "stop and say where"
    skip = "leave it out and count it"


@dataclass(frozen=True)
class Part:
    """A piece of a prompt.

    A prompt whose parts all have a role is a chat: a template shows the bare texts with control tokens of its own around them,
    and an empty turn of the assistant at the end opens the answer.

    Attributes:
        text: what was said.
        role: system, user or assistant for a turn of a chat; None for plain text.
        drop: in which order pieces give way when a prompt is too long (lowest first, then from the left); None last of all.
        whole: give way as a whole, or token by token from the left. Templates give up whole turns, but for the last.
        eos: whether an end-of-sequence token follows, in plain text; who reads the text sees a line's end.
        prefix: what stands before it in plain text: the speaker's tag.
        source: whether it is knowledge that the answer should rest on; evaluate counts what answers copy from it.
    """

    text: str
    role: str | None = None
    drop: int | None = 0
    whole: bool = False
    eos: bool = False
    prefix: str = ""
    source: bool = False


class Turn(TypedDict):
    """Who speaks (a part's role), and what, without a tag: a message as chat models know it."""

    role: str
    content: str


@dataclass(frozen=True)
class Record:
    """One response to one prompt, as a row gives it, before any token is cut.

    Attributes:
        parts: the prompt.
        response: its text, cleaned up.
        reward: what the data stores about it, or None.
        position: its place among the responses of its row, 0 first.
        subset: the part of the data that the row comes from, whose prompts evaluate also reports apart, or None.
        split: the split that the row itself names, which counts where the source is not split into files; or None.
    """

    parts: tuple[Part, ...]
    response: str
    reward: float | None = None
    position: int = 0
    subset: str | None = None
    split: str | None = None

    @cached_property
    def prompt(self) -> str:
        """The prompt as plain text, whatever a model's template makes of it."""
        return plain_prompt([vars(part) for part in self.parts])

    @cached_property
    def group(self) -> str:
        """The prompt's identity: 16 hexadecimal digits of its text."""
        return prompt_key(self.prompt)


def turns(parts: Sequence[Mapping[str, Any]]) -> list[Turn]:
    """A prompt's turns from its parts (fields of Part), without their tags; plain text is what a user says."""
    return [Turn(role=part["role"] or "user", content=part["text"]) for part in parts]


class BadRow(Exception):
    """A row that is not what the task reads: the field, what stands there, what is needed; and what to do about it."""

    def __init__(self, what: str, hint: str = "Leave such rows out with task.on_bad_row=skip, or correct the file.") -> None:
        super().__init__(what)
        self.hint = hint


class Dropped(Exception):
    """A row that the task leaves out by its own rules, with the reason that is counted."""


@dataclass(kw_only=True)
class Task(ABC):
    """Where rows come from and what they mean."""

    path: str | None = field(metadata=OPERATIONAL)  # local rows instead of the hub's: their content is what counts
    on_bad_row: OnBadRow
    subsets: list[str] | None = field(metadata=EXAMPLES)  # rewards and tokenizers are fitted on all of them
    min_reward: float | None = field(metadata=EXAMPLES | numbers("(-inf, inf)"))
    max_reward: float | None = field(metadata=EXAMPLES | numbers("(-inf, inf)"))
    responses: Responses = field(metadata=EXAMPLES)
    noise: float = field(metadata=EXAMPLES | numbers("[0, 1)", 0.25))
    noise_seed: int = field(metadata=EXAMPLES | SEED)
    max_prompt_tokens: int = field(metadata=EXAMPLES | COUNT)
    max_response_tokens: int = field(metadata=EXAMPLES | COUNT)  # an end-of-sequence token comes on top
    truncated: Truncated = field(metadata=EXAMPLES)
    chat: Chat = field(metadata=EXAMPLES)
    stop: list[str] = field(metadata=EXAMPLES)  # generated text ends before the first of these

    version: ClassVar[int] = 1  # to be increased when a change of the code changes results

    hub: ClassVar[str | None] = None
    hub_revision: ClassVar[str | None] = None  # where another branch than the default one is read
    download: ClassVar[str] = "this task has no public data set"  # why task.path is needed, and what to put there

    def __post_init__(self) -> None:
        if self.min_reward is not None and self.max_reward is not None and self.min_reward > self.max_reward:
            raise UserError(
                f"task.min_reward={self.min_reward:g} is above task.max_reward={self.max_reward:g}: no response lies between.",
                "task.min_reward=null, or task.max_reward=null",
            )
        if self.subsets == []:
            raise UserError("task.subsets names none: no response is left.", "task.subsets=null")
        if "" in self.stop:
            raise UserError("task.stop holds an empty string: every text ends before that.", "task.stop=[]")

    @abstractmethod
    def records(self, row: dict[str, Any]) -> Sequence[Record]:
        """The responses of one row.

        Raises:
            BadRow: a field is missing or of the wrong kind.
            Dropped: the task leaves such rows out.
        """

    def source(self) -> Source:
        """Where the rows are."""
        if self.path is not None:
            return LocalSource(self.path)
        if self.hub is None:
            raise UserError(f"task.path is not set, and {self.download}.", "task.path=FOLDER")
        return HubSource(self.hub, self.hub_revision)

    def split_of(self, prompt: str) -> str:
        """The split of a prompt where the source has none: 5 % validation, 5 % test, by the prompt's hash."""
        share = int(prompt_key(prompt)[:8], 16) / 2**32
        return "validation" if share < 0.05 else "test" if share < 0.1 else "train"

    def how_to_fill(self, split: str) -> str:
        """What to do where a split that the source has no place for got no row."""
        return (
            "A prompt's hash puts it there or not (90 % train, 5 % validation, 5 % test): "
            "add rows with other prompts, or name a folder with a file for each split."
        )


def plain_prompt(parts: Sequence[dict[str, Any]]) -> str:
    """A prompt's parts (fields of Part) as plain text; a line ends where an end-of-sequence token follows."""
    return "".join(part["prefix"] + part["text"] + "\n" * part["eos"] for part in parts)


def prompt_key(prompt: str) -> str:
    """16 hexadecimal digits that identify a prompt."""
    return hashlib.sha256(prompt.encode()).hexdigest()[:16]


def text_field(row: dict[str, Any], name: str) -> str:
    """A field that must be text."""
    if name not in row:
        raise BadRow(f'field "{name}" is missing; there are {shown(", ".join(row)) if row else "none"}')
    if not isinstance(row[name], str):
        raise BadRow(f'field "{name}" is {shown(row[name])}; text is needed')
    return unicode(row[name], name)


def unicode(text: str, name: str) -> str:
    """Text that UTF-8 can hold: JSON's escapes can also spell half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadRow(f'field "{name}" holds half of a surrogate pair, which is no character') from None
    return text


def split_name(value: Any, name: str) -> str:
    """The split that a field names."""
    if value not in list(SPLIT_NAMES):
        raise BadRow(f'field "{name}" is {shown(value)}; one of {", ".join(SPLIT_NAMES)} is needed')
    return SPLIT_NAMES[value]


def number(value: Any, name: str) -> float:
    """A value that must be a finite number; text that reads as one is one."""
    try:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError
        found = float(value)
    except (ValueError, OverflowError):
        raise BadRow(f'field "{name}" is {shown(value)}; a number is needed') from None
    if not isfinite(found):
        raise BadRow(f'field "{name}" is {shown(value)}; a finite number is needed')
    return found


def shown(value: Any) -> str:
    """A value as an error message quotes it."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
