"""Token ids of texts with control tokens, and of pieces of text that are concatenated afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, Any

from aloll_cli.text.control import ControlTokens
from aloll_cli.text.encoded import RenderedText

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

    def starts(self, text: str) -> list[int]:
        """Where each token of a text begins, in characters. Control tokens are ordinary text."""
        if self._fast is None:
            return list(range(len(text)))  # as if each character were a token
        self._fast.encode_special_tokens = True
        return [start for start, _ in self._fast.encode(text, add_special_tokens=False).offsets]

    def _plain_ids(self, texts: Sequence[str], control: bool) -> list[list[int]]:
        if self._fast is None:
            ids: list[list[int]] = self._tokenizer(texts, add_special_tokens=False, split_special_tokens=not control)["input_ids"]
            return ids
        self._fast.encode_special_tokens = not control
        batches = (texts[start : start + BATCH] for start in range(0, len(texts), BATCH))
        return [found.ids for batch in batches for found in self._fast.encode_batch_fast(batch, add_special_tokens=False)]


class RenderedTokens:
    """Tokenizes rendered chats as a whole, as servers do, with the control tokens that the template wrote, and no other."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, control: ControlTokens) -> None:
        self._pieces, self._control = Pieces(tokenizer), control
        self._ids = frozenset(control.ids.values())
        backend = getattr(tokenizer, "backend_tokenizer", None)
        # then other texts than its name may become a control token
        self._normalizes = getattr(backend, "normalizer", None) is not None
        after, alone = self._pieces.ids([f"{next(iter(control.ids), '')}x", "x"], [False] * 2, control=True)
        self._starts_afresh = after[1:] == alone  # whether text after a control token is tokenized as at the start

    def ids(self, texts: Sequence[RenderedText], within: bool = False) -> list[list[int]]:
        """Token ids of chats, or if ``within`` of the ends of chats."""
        if within:
            return [self._spelled(text, within) for text in texts]
        whole = [text.text for text in texts if not text.hides]
        ids = iter(self._pieces.ids(whole, [False] * len(whole), control=True))
        return [self._spelled(text) if text.hides else self._checked(text, next(ids)) for text in texts]

    def shown(self, text: RenderedText) -> str:
        """A text with the names that people typed."""
        return self._control.shown(text.text) if text.hides else text.text

    def _checked(self, text: RenderedText, ids: list[int]) -> list[int]:
        """The ids, unless the tokenizer's normalization made something else a control token."""
        if not self._normalizes:
            return ids
        written = len(self._control.name.findall(text.text))
        return ids if sum(token in self._ids for token in ids) == written else self._spelled(text)

    def _spelled(self, text: RenderedText, within: bool = False) -> list[int]:
        """Token ids of the text between control tokens, which becomes none, and of these."""
        pieces = self._control.split(text.text)
        said = [self.shown(replace(text, text=piece)) for piece in pieces[::2]]
        inner = [within, *[not self._starts_afresh] * (len(said) - 1)]
        control = [[self._control.ids[name]] for name in pieces[1::2]]
        return list(chain.from_iterable(chain.from_iterable(zip_longest(self._pieces.ids(said, inner), control, fillvalue=[]))))


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
