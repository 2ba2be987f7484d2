"""Token ids of pieces of text that are concatenated afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BATCH = 512  # texts per call; more take a fifth longer, because the details of all tokens are kept until the call ends
GUARD = "\ue000"  # a private-use character, which no token of a vocabulary starts or ends with


class Pieces:
    """Tokenizes pieces of a text, without the leading space that tokenizers such as Llama 2's add, except at the start."""

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
            within: (N,) whether a piece follows another one.
            control: whether control tokens are recognized; otherwise they are ordinary text.
        """
        if not texts:
            return []
        given = [self._guard * inner + text for text, inner in zip(texts, within, strict=True)]
        distinct = list(dict.fromkeys(given))  # a prompt is repeated for each of its responses
        ids_of = dict(zip(distinct, self._plain_ids(distinct, control), strict=True))
        if not self._guard:
            return [ids_of[text] for text in given]
        return [ids_of[text][self._length * inner :] for text, inner in zip(given, within, strict=True)]

    def _plain_ids(self, texts: Sequence[str], control: bool) -> list[list[int]]:
        if self._fast is None:
            ids: list[list[int]] = self._tokenizer(texts, add_special_tokens=False, split_special_tokens=not control)["input_ids"]
            return ids
        self._fast.encode_special_tokens = not control
        batches = (texts[start : start + BATCH] for start in range(0, len(texts), BATCH))
        return [found.ids for batch in batches for found in self._fast.encode_batch_fast(batch, add_special_tokens=False)]


def _fast(tokenizer: PreTrainedTokenizerBase) -> Any | None:
    """The Rust tokenizer, a third faster if called directly; None if the Python class adds steps of its own."""
    from transformers import PreTrainedTokenizerFast

    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        return None
    if any(getattr(type(tokenizer), name) is not getattr(PreTrainedTokenizerFast, name) for name in ("__call__", "_encode_plus")):
        return None
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    return tokenizer.backend_tokenizer
