"""Pieces of text as tokens, to be put together by us."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

GUARD = "\ue000"  # of Unicode's private use: no token of any vocabulary begins or ends with it


class Pieces:
    """Tokenises pieces of a text; those within it go without the space that tokenizers such as Llama 2's put before a text."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._guard = ""
        self._fast = _fast(tokenizer)
        guard, guarded, alone = self.ids([GUARD, GUARD + "x", "x"], [False] * 3)
        if guarded[len(guard) :] != alone:
            self._guard, self._length = GUARD, len(guard)

    def ids(self, texts: Sequence[str], within: Sequence[bool], control: bool = False) -> list[list[int]]:
        """Token ids of pieces.

        Args:
            texts: (N,) the pieces.
            within: (N,) whether something stands before a piece.
            control: whether control tokens are read as such; if not, they are text like any other.
        """
        if not texts:
            return []
        given = [self._guard * inner + text for text, inner in zip(texts, within, strict=True)]
        found = self._plain_ids(given, control)
        if not self._guard:
            return found
        return [ids[self._length * inner :] for ids, inner in zip(found, within, strict=True)]

    def _plain_ids(self, texts: Sequence[str], control: bool) -> list[list[int]]:
        if self._fast is None:
            ids: list[list[int]] = self._tokenizer(texts, add_special_tokens=False, split_special_tokens=not control)["input_ids"]
            return ids
        self._fast.encode_special_tokens = not control
        return [encoding.ids for encoding in self._fast.encode_batch_fast(texts, add_special_tokens=False)]


def _fast(tokenizer: PreTrainedTokenizerBase) -> Any | None:
    """The Rust tokenizer behind one of transformers, a third faster to ask itself, or None where a class adds to its work."""
    from transformers import PreTrainedTokenizerFast

    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        return None
    if any(getattr(type(tokenizer), name) is not getattr(PreTrainedTokenizerFast, name) for name in ("__call__", "_encode_plus")):
        return None
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    return tokenizer.backend_tokenizer
