"""Options of every task that have a few choices."""

from __future__ import annotations

from enum import Enum


class Responses(Enum):
    """Which responses to a prompt are used."""

    all = "all"
    best = "the one with the highest stored reward"
    worst = "the one with the lowest stored reward"
    first = "the first of each row: the one people chose, where the data stores that"


class Truncated(Enum):
    """What happens to a response that is longer than the limit."""

    keep = "train on its beginning, without an end-of-sequence token"
    drop = "leave it out"


class Unrated(Enum):
    """What happens to a response without a stored reward."""

    keep = "use it; a reward that scores text needs no stored one"
    drop = "leave it out, in every split"


class OnBadRow(Enum):
    """What happens to a row that cannot be read."""

    error = "stop, and name the row"
    skip = "leave it out and count it"


class Chat(Enum):
    """How a prompt is formatted for the model."""

    template = "with the tokenizer's chat template, if it has one; else as plain text"
    wrap = "with the chat template, and a prompt without turns as a turn of the user"
    without_thinking = "with the chat template and enable_thinking=False"
    plain = "as plain text, with the task's speaker tags"
