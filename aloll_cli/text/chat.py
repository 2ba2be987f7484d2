"""Chat templates, applied so that control tokens come from the template only, never from the text of a turn.

The template is rendered with a marker in place of each turn's text and split at the markers. The pieces between markers, which
are the same for all chats with these roles, are tokenized with control tokens, and the texts of the turns without them.
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

MARK = "\ue000{}\ue001"  # private-use characters, which no template contains or strips
MARKS = re.compile("\ue000(\\d+)\ue001")
DATE = "26 Jul 2024"  # for templates that insert today's date: a recipe must give the same tokens on any day


@dataclass(frozen=True)
class Skeleton:
    """The text of a template around n turns.

    Attributes:
        texts: (n + 1,) texts before, between and after the turns, including the header of the response.
        ids: (n + 1,) their token ids.
        order: (n,) index of the turn in each gap.
    """

    texts: list[str]
    ids: list[list[int]]
    order: list[int]

    def filled(self, said: Sequence[str]) -> str:
        """The chat as text, given the text of each turn."""
        return "".join(chain.from_iterable(zip_longest(self.texts, (said[turn] for turn in self.order), fillvalue="")))

    def filled_ids(self, said: Sequence[list[int]]) -> list[int]:
        """The chat as token ids, given those of each turn."""
        pieces = chain.from_iterable(zip_longest(self.ids, (said[turn] for turn in self.order), fillvalue=[]))
        return [token for piece in pieces for token in piece]


class ChatTemplate:
    """The chat template of a tokenizer."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, thinking: bool) -> None:
        """Raises UserError if thinking is to be turned off and the template has no option for it."""
        self._tokenizer, self._pieces = tokenizer, Pieces(tokenizer)
        self._options: dict[str, Any] = {"date_string": DATE} | ({} if thinking else {"enable_thinking": False})
        if not thinking and "enable_thinking" not in str(tokenizer.chat_template):
            what = "task.chat=without_thinking: the model's chat template has no option enable_thinking."
            raise UserError(what, "task.chat=template")
        self._skeletons: dict[tuple[str, ...], Skeleton] = {}

    def skeleton(self, roles: tuple[str, ...]) -> Skeleton:
        """The text around turns with these roles, up to the start of the assistant's response.

        Raises:
            UserError: the template rejects such turns, or does not render each of them exactly once.
        """
        if roles not in self._skeletons:
            self._skeletons[roles] = self._skeleton(roles, opened=True)
        return self._skeletons[roles]

    def shown(self, roles: tuple[str, ...], texts: Sequence[str]) -> list[str]:
        """Each turn's text as the template renders it: stripped, for example, or without the thoughts of earlier responses."""
        skeleton = self.skeleton(roles)
        if self._rendered(roles, texts, opened=True) == skeleton.filled(texts):
            return list(texts)
        return [self._alone(skeleton, roles, turn, text) for turn, text in enumerate(texts)]

    def end(self) -> int | None:
        """The control token after an assistant turn, or None if there is none."""
        after = self._skeleton(("user", "assistant"), opened=False).ids[-1]
        for token in after:
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
                what = "omits" if turn not in order else "repeats"
                raise _refusal(f"{what} turn {turn + 1}, by the {role}, of {_listed(roles)}")
        within = [i > 0 for i in range(len(texts))]
        return Skeleton(texts, self._pieces.ids(texts, within, control=True), order)

    def _alone(self, skeleton: Skeleton, roles: tuple[str, ...], turn: int, text: str) -> str:
        """One turn's text as rendered; unchanged if the template renders other text around it because of it."""
        marks = _marks(roles)
        before, after = skeleton.filled(marks).split(marks[turn])
        found = self._rendered(roles, [*marks[:turn], text, *marks[turn + 1 :]], opened=True)
        fits = found.startswith(before) and found.endswith(after) and len(found) >= len(before) + len(after)
        return found[len(before) : len(found) - len(after)] if fits else text

    def _rendered(self, roles: tuple[str, ...], texts: Sequence[str], opened: bool) -> str:
        from jinja2 import TemplateError

        turns = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=True)]
        try:
            return str(self._tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=opened, **self._options))
        except (TemplateError, ValueError, TypeError) as error:  # a template may raise anything of these
            reason = " ".join(str(error).split())[:200].rstrip(".")
            raise _refusal(f"rejects turns with the roles {_listed(roles)}: {reason}") from error


def chat_end(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The control token that ends a response of a chat model; None without a template, or if it has no such token."""
    if tokenizer.chat_template is None:
        return None
    try:
        return ChatTemplate(tokenizer, thinking=True).end()
    except UserError:  # the template rejects these roles; rendering a chat will raise the error
        return None


def _marks(roles: Sequence[str]) -> list[str]:
    return [MARK.format(turn) for turn in range(len(roles))]


def _listed(roles: Sequence[str]) -> str:
    return ", ".join(roles) if len(roles) <= 6 else ", ".join(roles[:5]) + f" and {len(roles) - 5} more"


def _refusal(what: str) -> UserError:
    return UserError(f"the model's chat template {what}.", "Set task.chat=plain, or choose another model.")
