"""What a chat template writes around turns, whatever they say, and which control tokens that makes of a tokenizer's tokens."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from aloll_cli.errors import UserError
from aloll_cli.text.control import ControlTokens
from aloll_cli.text.template import Template, mark, marked
from aloll_cli.text.tokens import Pieces

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TALK = ["user", "assistant", "user", "assistant"]
CHATS = (["user"], ["system", "user"], TALK, ["system", *TALK])  # roles; a template need not accept all of them
SHAPE = re.compile(r"[^\w\s].*\w.*[^\w\s]", re.DOTALL)  # <|user|> and [INST], but no word, no number, and no white space


@dataclass(frozen=True)
class Written:
    """A chat as a template writes it, with a mark in place of what is said.

    Attributes:
        roles: of its turns.
        text: the chat.
        opened: whether the header of the assistant's next turn ends it.
    """

    roles: Sequence[str]
    text: str
    opened: bool

    @property
    def header(self) -> str:
        """The header of the assistant's next turn with what precedes it, or an empty text."""
        return self.text.rpartition(mark(len(self.roles) - 1))[2] if self.opened else ""


def written_by(tokenizer: PreTrainedTokenizerBase) -> list[Written]:
    """What the tokenizer's template writes around the turns of CHATS; nothing without a template, or of a broken one."""
    if tokenizer.chat_template is None:
        return []
    template, found = Template(tokenizer, thinking=True), []
    try:
        for opened in (True, False):
            texts = template.render([marked(roles) for roles in CHATS], opened)
            found += [Written(roles, text, opened) for roles, text in zip(CHATS, texts, strict=True) if isinstance(text, str)]
    except UserError:  # rendering a chat of the data will raise the error
        return []
    return found


def control_tokens(tokenizer: PreTrainedTokenizerBase, more: Sequence[str] = ()) -> ControlTokens:
    """The control tokens of a tokenizer: those that it calls special, and those that its chat template writes around turns.

    Tags that set apart a part of what the assistant says, such as ``<think>`` and ``</think>``, are words like any other.

    Args:
        tokenizer: the tokenizer.
        more: names of further control tokens.
    """
    return ControlTokens(tokenizer, [*_names_around_turns(tokenizer), *more])


def _names_around_turns(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The names of added tokens that the tokenizer does not call special, and that its template writes around turns."""
    tokens = {token.content: number for number, token in tokenizer.added_tokens_decoder.items() if token.content}
    words = [token.content for token in tokenizer.added_tokens_decoder.values() if not (token.special or token.single_word)]
    names = [name for name in words if SHAPE.fullmatch(name.strip())]
    chats = written_by(tokenizer) if names else []
    if not chats:
        return []
    every = re.compile("|".join(map(re.escape, sorted(tokens, key=len, reverse=True))))  # the longest match counts
    found = [name for chat in chats for name in every.findall(chat.text)]
    ids = list(chain(*Pieces(tokenizer).ids([chat.text for chat in chats], [False] * len(chats), control=True)))
    return [
        name for name in names
        if name in found and ids.count(tokens[name]) == found.count(name) and not _is_markup(name, tokens, chats)
    ]  # fmt: skip


def _is_markup(name: str, names: Collection[str], chats: Sequence[Written]) -> bool:
    """Whether a token is one of two tags, ``<think>`` and ``</think>``, that surround no turn of any chat.

    Around what the assistant says they still are, unless its header opens the tag.
    """
    opening = name.replace("/", "", 1)
    closing = next((other for other in names if "/" in other and other.replace("/", "", 1) == opening), None)
    if opening not in names or closing is None:
        return False
    pair = re.compile(f"{re.escape(opening)}(.*?){re.escape(closing)}", re.DOTALL)
    opens = any(opening in chat.header for chat in chats)
    return not any(
        mark(turn) in inner and (opens or role != "assistant")
        for chat in chats
        for inner in pair.findall(chat.text)
        for turn, role in enumerate(chat.roles)
    )
