"""Chats as a tokenizer's template shows them: control tokens come from the template, never from what somebody said.

The template is rendered with a mark in each turn's place and cut at the marks; the pieces between them, the same for every
chat of these roles, are tokenised with their control tokens, and what was said is tokenised apart, without any.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, Any

from aloll_cli.errors import UserError
from aloll_cli.text.tokens import Pieces

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MARK = "\ue000{}\ue001"  # of Unicode's private use: no template's text holds it, and none trims it
MARKS = re.compile("\ue000(\\d+)\ue001")
DATE = "26 Jul 2024"  # for templates that ask for today's: the same recipe gives the same tokens on any day


@dataclass(frozen=True)
class Skeleton:
    """What a template writes around n turns.

    Attributes:
        texts: (n + 1,) before, between and behind what was said, the opening of the answer included.
        ids: (n + 1,) their tokens.
        order: (n,) the turn that stands in each gap.
    """

    texts: list[str]
    ids: list[list[int]]
    order: list[int]

    def filled(self, said: Sequence[str]) -> str:
        """The chat as text."""
        return "".join(chain.from_iterable(zip_longest(self.texts, (said[turn] for turn in self.order), fillvalue="")))

    def filled_ids(self, said: Sequence[list[int]]) -> list[int]:
        """The chat as tokens."""
        pieces = chain.from_iterable(zip_longest(self.ids, (said[turn] for turn in self.order), fillvalue=[]))
        return [token for piece in pieces for token in piece]


class ChatTemplate:
    """The chat template of a tokenizer."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, thinking: bool) -> None:
        """Raises UserError where the template is to be told of thinking and knows no such thing."""
        self._tokenizer, self._pieces = tokenizer, Pieces(tokenizer)
        self._options: dict[str, Any] = {"date_string": DATE} | ({} if thinking else {"enable_thinking": False})
        if not thinking and "enable_thinking" not in str(tokenizer.chat_template):
            raise UserError("task.chat=without_thinking: the chat template knows no enable_thinking.", "task.chat=template")
        self._skeletons: dict[tuple[str, ...], Skeleton] = {}

    def skeleton(self, roles: tuple[str, ...]) -> Skeleton:
        """What the template writes around turns of these roles, up to the beginning of the assistant's answer.

        Raises:
            UserError: it refuses such turns, or does not show each of them once.
        """
        if roles not in self._skeletons:
            self._skeletons[roles] = self._skeleton(roles, opened=True)
        return self._skeletons[roles]

    def shown(self, roles: tuple[str, ...], texts: Sequence[str]) -> list[str]:
        """What the template makes of each turn's text by itself: trimmed, say, or without an earlier answer's thoughts."""
        skeleton = self.skeleton(roles)
        if self._rendered(roles, texts, opened=True) == skeleton.filled(texts):
            return list(texts)
        return [self._alone(skeleton, roles, turn, text) for turn, text in enumerate(texts)]

    def end(self) -> int | None:
        """The control token that follows what the assistant said, or None where none does."""
        behind = self._skeleton(("user", "assistant"), opened=False).ids[-1]
        for token in behind:
            if token in self._tokenizer.all_special_ids or self._is_control(token):
                return token
            if str(self._tokenizer.decode([token])).strip():
                break
        return None

    def _is_control(self, token: int) -> bool:
        added = self._tokenizer.added_tokens_decoder.get(token)
        return added is not None and bool(added.special)

    def _skeleton(self, roles: tuple[str, ...], opened: bool) -> Skeleton:
        pieces = MARKS.split(self._rendered(roles, _marks(roles), opened))
        texts, order = pieces[::2], [int(turn) for turn in pieces[1::2]]
        for turn, role in enumerate(roles):
            if order.count(turn) != 1:
                what = "leaves out" if turn not in order else "repeats"
                raise _refusal(f"{what} turn {turn + 1}, the {role}'s, of {_listed(roles)}")
        within = [i > 0 for i in range(len(texts))]
        return Skeleton(texts, self._pieces.ids(texts, within, control=True), order)

    def _alone(self, skeleton: Skeleton, roles: tuple[str, ...], turn: int, text: str) -> str:
        """One turn's text among marks; as it was said where the template writes something else around it because of it."""
        marks = _marks(roles)
        before, behind = skeleton.filled(marks).split(marks[turn])
        found = self._rendered(roles, [*marks[:turn], text, *marks[turn + 1 :]], opened=True)
        fits = found.startswith(before) and found.endswith(behind) and len(found) >= len(before) + len(behind)
        return found[len(before) : len(found) - len(behind)] if fits else text

    def _rendered(self, roles: tuple[str, ...], texts: Sequence[str], opened: bool) -> str:
        from jinja2 import TemplateError

        turns = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=True)]
        try:
            return str(self._tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=opened, **self._options))
        except (TemplateError, ValueError, TypeError) as error:  # templates are other people's code
            reason = " ".join(str(error).split())[:200].rstrip(".")
            raise _refusal(f"refuses turns of {_listed(roles)}: {reason}") from error


def chat_end(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The control token that a chat model puts behind an answer; None where there is no template, or none of its own."""
    if tokenizer.chat_template is None:
        return None
    try:
        return ChatTemplate(tokenizer, thinking=True).end()
    except UserError:  # a template for other turns: its own rendering will say so
        return None


def _marks(roles: Sequence[str]) -> list[str]:
    return [MARK.format(turn) for turn in range(len(roles))]


def _listed(roles: Sequence[str]) -> str:
    return ", ".join(roles) if len(roles) <= 6 else ", ".join(roles[:5]) + f" and {len(roles) - 5} more"


def _refusal(what: str) -> UserError:
    return UserError(f"the model's chat template {what}.", "task.chat=plain, or another model")
