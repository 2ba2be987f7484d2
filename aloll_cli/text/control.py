"""Control tokens, and texts in which people typed the name of one."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FIRST, LAST = 0xF0000, 0xFFFFD  # of plane 15, private use: stand for the names of control tokens in hidden texts
ESCAPE = "\U0010fffd"  # before a character of that range that was in the text


class ControlTokens:
    """The control tokens of a tokenizer, which text must never become: those that it calls special, and others by name.

    Other added tokens, such as Qwen3's ``<think>``, are words like any other.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, more: Iterable[str] = ()) -> None:
        """``more`` are names of further control tokens."""
        added = {token.content: number for number, token in tokenizer.added_tokens_decoder.items()}
        special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
        special |= {*tokenizer.all_special_tokens, *more}
        names = sorted((special & set(added)) - {""}, key=lambda name: (-len(name), name))  # the longest match counts
        self.ids: dict[str, int] = {name: added[name] for name in names}
        tokens = tokenizer.added_tokens_decoder
        self._eats_left = {name for name in names if tokens[added[name]].lstrip}
        self._eats_right = {name for name in names if tokens[added[name]].rstrip}
        self.name = re.compile(f"({'|'.join(map(re.escape, names))})") if names else re.compile("((?!))")
        ends = sorted({end for name in names for end in (name[0], name[-1])})
        self._codes = {text: chr(FIRST + place) for place, text in enumerate(dict.fromkeys([*names, *ends]))}
        self._names = {code: text for text, code in self._codes.items()}
        self._ends = {ord(end): self._codes[end] for end in ends}
        self._private = re.compile(f"[{chr(FIRST)}-{chr(LAST)}{ESCAPE}]")
        self._hidden = re.compile(f"{ESCAPE}(.)|([{chr(FIRST)}-{chr(LAST)}])", re.DOTALL)

    def typed(self, text: str) -> bool:
        """Whether a text contains the name of a control token."""
        return self.name.search(text) is not None

    def hidden(self, text: str, ends: bool) -> str:
        """The text with a private-use character in place of each name of a control token.

        Args:
            text: what somebody said.
            ends: whether also in place of each character that a name begins or ends with.
        """
        text = self.name.sub(lambda found: self._codes[found[0]], self._private.sub(rf"{ESCAPE}\g<0>", text))
        return text.translate(self._ends) if ends else text

    def shown(self, text: str) -> str:
        """The text that was hidden."""
        return self._hidden.sub(lambda found: found[1] or self._names.get(found[2], found[2]), text)

    def split(self, text: str) -> list[str]:
        """(2n + 1,) what stands before, between and after n control tokens, with these in between.

        White space beside a control token that absorbs it (``lstrip``, ``rstrip``) is left out.
        """
        pieces = self.name.split(text)
        for i in range(1, len(pieces), 2):
            if pieces[i] in self._eats_left:
                pieces[i - 1] = pieces[i - 1].rstrip()
            if pieces[i] in self._eats_right:
                pieces[i + 1] = pieces[i + 1].lstrip()
        return pieces
