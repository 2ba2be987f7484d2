"""Rows of one's own.

A text to continue: ``{"prompt": "Dear customer,", "response": "we are sorry.", "reward": 0.3}``
A chat: ``{"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi!"}], "response": "Hello."}``
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aloll_cli.tasks.base import BadRow, Part, Record, Task, number, shown, text_field, unicode

TAGS = {"system": "System:\n", "user": "User:\n", "assistant": "Assistant:\n"}  # where no template shows the turns


@dataclass(kw_only=True)
class Local(Task):
    """Your own rows: a prompt to continue or the messages of a chat, a response, and a reward where there is one."""

    def records(self, row: dict[str, Any]) -> Sequence[Record]:
        messages, reward = row.get("messages"), row.get("reward")
        response = text_field(row, "response")
        stored = None if reward is None else number(reward, "reward")
        if messages is None:
            # the space belongs to the response, as the tokenizer sees words
            return [Record((Part(text_field(row, "prompt")),), " " + response, stored)]
        if row.get("prompt") is not None:
            raise BadRow('fields "prompt" and "messages" are both there; one of them is needed')
        return [Record(chat_parts(messages), response, stored)]


def chat_parts(messages: Any) -> tuple[Part, ...]:
    """The parts of a chat's prompt: what the system said stays, the oldest turns give way first."""
    if not isinstance(messages, list) or not messages:
        raise BadRow(f'field "messages" is {shown(messages)}; a list of turns is needed')
    turns = [_turn(message, place) for place, message in enumerate(messages, start=1)]
    if (last := turns[-1][0]) != "user":
        raise BadRow(f'field "messages" ends with a turn of the {last}; the user must speak last, and the answer be "response"')
    parts = [
        Part(text, role, drop=None if role == "system" else 0, prefix="\n\n" * (i > 0) + TAGS[role])
        for i, (role, text) in enumerate(turns)
    ]
    return (*parts, Part("", "assistant", drop=None, prefix="\n\n" + TAGS["assistant"]))


def _turn(message: Any, place: int) -> tuple[str, str]:
    if not isinstance(message, dict):
        raise BadRow(f'field "messages", turn {place} is {shown(message)}; {{"role": …, "content": …}} is needed')
    role, content = message.get("role"), message.get("content")
    if role not in list(TAGS):
        raise BadRow(f'field "messages", turn {place}: "role" is {shown(role)}; {", ".join(TAGS)} are known')
    if not isinstance(content, str):
        raise BadRow(f'field "messages", turn {place}: "content" is {shown(content)}; text is needed')
    return role, unicode(content, "messages")
