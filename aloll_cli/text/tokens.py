"""Token ids of texts with control tokens, and of pieces of text that are concatenated afterwards."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from copy import copy
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

    def __init__(self, tokenizer: PreTrainedTokenizerBase, names: Collection[str] = ()) -> None:
        """``names`` are control tokens beside those that the tokenizer calls special.

        Text becomes none of them, even where the vocabulary makes one of its name as text, as Unigram's do of ``</s>``.
        """
        self._tokenizer = _with_special(tokenizer, names)
        self._guard, self._length = "", 0
        self._stubborn: dict[int, re.Pattern[str]] = {}
        self._fast = _fast(self._tokenizer)
        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        self.normalizes: bool = getattr(backend, "normalizer", None) is not None  # then tokens may have other spellings
        guard, guarded, alone = self.ids([GUARD, GUARD + "x", "x"], [False] * 3)
        if guarded[len(guard) :] != alone:
            self._guard, self._length = GUARD, len(guard)
        self._stubborn = self._stubborn_ids(names)

    def _stubborn_ids(self, names: Collection[str]) -> dict[int, re.Pattern[str]]:
        """Control tokens that their names become even as text, and where to cut the names."""
        added = {token.content: number for number, token in self._tokenizer.added_tokens_decoder.items()}
        special = {*names, *self._tokenizer.all_special_tokens} & {*added} - {self._tokenizer.unk_token}
        control = sorted(name for name in special if len(name) > 1)
        found = self._plain_ids(control, control=False)
        return {
            added[name]: re.compile(f"(?<={re.escape(name[0])})(?={re.escape(name[1:])})")
            for name, ids in zip(control, found, strict=True)
            if added[name] in ids
        }

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
        found = [ids_of[text][self._length * inner :] for text, inner in zip(given, within, strict=True)]
        if self._stubborn and not control:
            for i, ids in enumerate(found):
                if not self._stubborn.keys().isdisjoint(ids):
                    found[i] = self._cut_apart(texts[i], within[i], ids)
        return found

    def _cut_apart(self, text: str, within: bool, ids: list[int]) -> list[int]:
        """Token ids of a text that would hold control tokens; their names are tokenized in two pieces."""
        normalizer = self.normalizes and self._tokenizer.backend_tokenizer.normalizer
        text = normalizer.normalize_str(text) if normalizer else text
        seams = re.compile("|".join(self._stubborn[number].pattern for number in self._stubborn.keys() & set(ids)))
        pieces = seams.split(text)
        if len(pieces) == 1:
            return [token for token in ids if token not in self._stubborn]
        return list(chain.from_iterable(self.ids(pieces, [within, *[True] * (len(pieces) - 1)])))

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

    def __init__(self, pieces: Pieces, control: ControlTokens) -> None:
        """``pieces`` must know these control tokens."""
        self._pieces, self._control = pieces, control
        self._ids = frozenset(control.ids.values())
        names = list(control.ids)
        *after, alone = pieces.ids([*(f"{name}x" for name in names), "x"], [False] * (len(names) + 1), control=True)
        # after which control tokens text is tokenized as at the start
        self._starts_afresh = {name for name, ids in zip(names, after, strict=True) if ids[1:] == alone}

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
        if not self._pieces.normalizes:
            return ids
        written = len(self._control.name.findall(text.text))
        return ids if sum(token in self._ids for token in ids) == written else self._spelled(text)

    def _spelled(self, text: RenderedText, within: bool = False) -> list[int]:
        """Token ids of the text between control tokens, which becomes none, and of these."""
        pieces = self._control.split(text.text)
        said = [self.shown(replace(text, text=piece)) for piece in pieces[::2]]
        inner = [within, *(name not in self._starts_afresh for name in pieces[1::2])]
        control = [[self._control.ids[name]] for name in pieces[1::2]]
        return list(chain.from_iterable(chain.from_iterable(zip_longest(self._pieces.ids(said, inner), control, fillvalue=[]))))


def _with_special(tokenizer: PreTrainedTokenizerBase, names: Collection[str]) -> PreTrainedTokenizerBase:
    """The tokenizer, or a copy that calls these tokens special, too: the Rust tokenizer reads the names of no others as text."""
    from tokenizers import Tokenizer

    backend = getattr(tokenizer, "backend_tokenizer", None)
    plain = {token.content for token in tokenizer.added_tokens_decoder.values() if not token.special} & set(names)
    if backend is None or not plain:
        return tokenizer
    described = json.loads(backend.to_str())
    for token in described["added_tokens"]:
        token["special"] |= token["content"] in plain
    found = copy(tokenizer)
    found._tokenizer = Tokenizer.from_str(json.dumps(described))
    return found


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
