"""What a tokenizer loses of texts: characters that it has no token for, and what it changes before it looks for tokens."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import TYPE_CHECKING
from unicodedata import normalize

from aloll_cli.text.tokens import Pieces

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Loss(IntEnum):
    """What tokens lost of a text; the greater one counts where both happened."""

    nothing = 0
    changed = 1  # the tokens say another text: other letters, or other white space
    unknown = 2  # a token stands for what the tokenizer cannot write


class Spelling:
    """Compares texts with what their tokens say.

    A space in front is no difference, because some tokenizers add one and others remove it; nor are two ways in which Unicode
    writes the same characters (NFC).
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer, self._pieces = tokenizer, Pieces(tokenizer)
        self._fast = getattr(tokenizer, "backend_tokenizer", None)
        self._unknown = _unknown(tokenizer)

    def losses(self, texts: Sequence[Sequence[str]], ids: Sequence[Sequence[int]]) -> list[Loss]:
        """What was lost of N prompts or responses.

        Only texts that are not found as they are in what the tokens say, because of the tokenizer, a cut or a chat template, are
        tokenized once more, each alone and whole.

        Args:
            texts: (N,) what was said in each.
            ids: (N,) their token ids, which may be cut and may hold more than these texts.
        """
        keys = [tuple(said) for said in texts]
        given = dict(zip(keys, ids, strict=True))  # a prompt is repeated for each of its responses
        written = dict(zip(given, self._decoded(list(given.values())), strict=True))
        missing = {key: [text for text in key if text.removeprefix(" ") not in written[key]] for key in given}
        lost = self._alone(list(dict.fromkeys(text for found in missing.values() for text in found)))
        return [max((lost[text] for text in missing[key]), default=Loss.nothing) for key in keys]

    def _alone(self, texts: list[str]) -> dict[str, Loss]:
        ids = self._pieces.ids(texts, [True] * len(texts))
        return {
            text: Loss.unknown if self._unknown in tokens else Loss.nothing if is_same(text, written) else Loss.changed
            for text, tokens, written in zip(texts, ids, self._decoded(ids), strict=True)
        }

    def _decoded(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """What tokens say, without the spaces that decoding may remove before punctuation."""
        if self._fast is not None:
            texts: list[str] = self._fast.decode_batch(ids, skip_special_tokens=False)
            return texts
        options = {"clean_up_tokenization_spaces": False, "spaces_between_special_tokens": False}
        return [str(self._tokenizer.decode(list(tokens), **options)) for tokens in ids]


def is_same(text: str, written: str) -> bool:
    """Whether tokens say a text."""
    text, written = (normalize("NFC", one) for one in (text, written))
    return written in (text, text.removeprefix(" "), f" {text}")


def _unknown(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The token that text becomes for which there is no other; None if there is none, as in byte-level vocabularies."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    found: int | None = tokenizer.unk_token_id
    if backend is not None and hasattr(backend.model, "unk_token"):
        found = None if backend.model.unk_token is None else backend.token_to_id(backend.model.unk_token)
    return found
