"""Prompts without turns as chats."""

from __future__ import annotations

from collections.abc import Sequence

from aloll_cli.tasks.base import Part, plain_prompt
from aloll_cli.text.prompts import PartDict, is_chat

HEADER = vars(Part("", "assistant", drop=None, prefix="\n\nAssistant:"))  # a response loses the space between it and plain text


def wrapped(parts: Sequence[PartDict]) -> Sequence[PartDict]:
    """A chat in which the user says the whole prompt; a prompt that is a chat already as it is.

    Args:
        parts: fields of tasks.base.Part.
    """
    return parts if is_chat(parts) else [vars(Part(plain_prompt(parts), "user")), HEADER]
