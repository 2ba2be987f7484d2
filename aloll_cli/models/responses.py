"""Responses: their text out of generated tokens, and where stop strings end them."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aloll_cli.text.encoded import Around

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NOTHING = Around()


@dataclass(frozen=True)
class Response:
    """A generated response.

    Attributes:
        text: the response, before a stop string.
        ids: the generated tokens, up to the end token or the one that completed a stop string.
        tokens: how many of them are text.
        ended: whether it was finished with an end token or a stop string, rather than cut at the limit.
    """

    text: str
    ids: list[int]
    tokens: int
    ended: bool


class Stops:
    """Looks for stop strings in responses that grow."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, strings: list[str]) -> None:
        """``strings``: any number; with none, nothing is found."""
        self._tokenizer, self._strings = tokenizer, strings
        # tokens that may contain the string: at least a byte each, plus a margin for control tokens and split characters
        self._reach = max((len(string.encode()) for string in strings), default=0) + 8

    def end(self, tokens: list[int], around: Around) -> bool:
        """Whether a stop string has come with the last of a response's tokens; ``around`` is not searched."""
        return self._is_in(tokens[-self._reach :], NOTHING) and self._is_in(tokens, around)

    def _is_in(self, tokens: list[int], around: Around) -> bool:
        return _first(self._strings, around.removed(_text(tokens, self._tokenizer), ended=False)) is not None


def response_of(new: list[int], tokenizer: PreTrainedTokenizerBase, ends: list[int], stop: list[str], around: Around) -> Response:
    """The response in a row of new tokens, which may end with padding; ``ends``: the tokens that end a response."""
    tokens = new[: next((i for i, token in enumerate(new) if token in ends), len(new))]

    def text_of(count: int, ended: bool = False) -> str:
        return around.removed(_text(tokens[:count], tokenizer), ended)

    if _first(stop, text_of(len(tokens))) is None:
        ended = len(tokens) < len(new)
        return Response(text_of(len(tokens), ended), new[: len(tokens) + ended], len(tokens), ended)
    needed = bisect_left(range(len(tokens)), True, key=lambda n: _first(stop, text_of(n)) is not None)
    text = text_of(needed)
    return Response(text[: _first(stop, text)], tokens[:needed], needed, True)


def _text(tokens: list[int], tokenizer: PreTrainedTokenizerBase) -> str:
    return str(tokenizer.decode(tokens, skip_special_tokens=True))


def _first(strings: list[str], text: str) -> int | None:
    """The position of the first stop string in a text, or None."""
    return min((text.index(string) for string in strings if string in text), default=None)
