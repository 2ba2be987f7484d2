"""What counts as a word: the tokenizers of all metrics of text, and which one fits the script of a data set.

The names are sacrebleu's. Pure functions: texts in, tokens out.
"""

from __future__ import annotations

import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu.metrics.bleu import BLEU

SOME, FEW = 0.005, 0.05  # shares of the letters of a data set
UNSPACED = ("CJK ", "HIRAGANA ", "KATAKANA ", "THAI ", "LAO ", "KHMER ", "MYANMAR ", "TIBETAN ")  # Unicode names of their letters
SELF_MADE = ("13a", "intl", "zh", "char")  # tokenizers that need no library of their language
LETTERS = ("a to z", "Chinese characters", "other letters of scripts without spaces", "other letters")


class TextTokenizer(ABC):
    """Splits texts for lengths, distinct-n, BLEU, ROUGE, coverage and density.

    Attributes:
        name: sacrebleu's name of it.
        unit: what a word is to people: words or characters.
    """

    name: str
    unit: str

    @cached_property
    def bleu(self) -> BLEU:
        """sacrebleu's BLEU as its command line sets it up, for sentences as well."""
        from sacrebleu.metrics.bleu import BLEU

        return BLEU(tokenize=self.name, smooth_method="exp", effective_order=True)  # sentence_score expects effective_order

    @abstractmethod
    def words(self, text: str) -> list[str]:
        """The words of a text without white space, in order, in their own case."""

    @abstractmethod
    def spaced(self, text: str) -> list[str]:
        """The words that the other formula of distinct-n in use counts."""

    @abstractmethod
    def pieces(self, text: str) -> list[str]:
        """Lower-cased words; each punctuation mark is a token of its own."""

    @abstractmethod
    def rouge(self, kinds: Sequence[str]) -> RougeScorer:
        """rouge-score's scorer of some kinds of ROUGE."""

    @abstractmethod
    def read_by_rouge(self, text: str) -> bool:
        """Whether ROUGE sees any word in a text."""


class English(TextTokenizer):
    """Words between white space; sacrebleu's 13a for BLEU, rouge-score's own tokenizer with Porter stemming for ROUGE."""

    name, unit = "13a", "words"

    def words(self, text: str) -> list[str]:
        return text.split()

    def spaced(self, text: str) -> list[str]:
        return text.split(" ")

    def pieces(self, text: str) -> list[str]:
        return re.findall(r"\w+|[^\w\s]", text.lower())

    def rouge(self, kinds: Sequence[str]) -> RougeScorer:
        from rouge_score.rouge_scorer import RougeScorer

        return RougeScorer(list(kinds), use_stemmer=True)

    def read_by_rouge(self, text: str) -> bool:
        return re.search("[a-z0-9]", text.lower()) is not None


class Other(TextTokenizer):
    """The tokens of one of sacrebleu's tokenizers for all metrics; words are those with a letter, a mark or a digit."""

    def __init__(self, name: str, unit: str) -> None:
        self.name, self.unit = name, unit

    def words(self, text: str) -> list[str]:
        return [token for token in self._tokens(text) if any(unicodedata.category(c)[0] in "LMN" for c in token)]

    def spaced(self, text: str) -> list[str]:
        return self.words(text)

    def pieces(self, text: str) -> list[str]:
        return self._tokens(text.lower())

    def rouge(self, kinds: Sequence[str]) -> RougeScorer:
        from rouge_score.rouge_scorer import RougeScorer

        return RougeScorer(list(kinds), tokenizer=_Lowered(self))

    def read_by_rouge(self, text: str) -> bool:
        return bool(self.words(text))

    def _tokens(self, text: str) -> list[str]:
        return str(self.bleu.tokenizer(" ".join(text.split()))).split()


class _Lowered:
    """Lower-cased words, as rouge-score asks for them."""

    def __init__(self, of: TextTokenizer) -> None:
        self._of = of

    def tokenize(self, text: str) -> list[str]:
        return self._of.words(text.lower())


ENGLISH = English()
TOKENIZERS: Mapping[str, TextTokenizer] = {
    "13a": ENGLISH,
    "intl": Other("intl", "words"),
    "zh": Other("zh", "characters"),
    "char": Other("char", "characters"),
    "ja-mecab": Other("ja-mecab", "words"),
    "ko-mecab": Other("ko-mecab", "words"),
}


def letter_shares(batches: Iterable[Sequence[str]]) -> dict[str, float]:
    """Shares of LETTERS in texts, which sum to 1; all 0 where there is no letter.

    Args:
        batches: the texts, some at a time.
    """
    counts = np.zeros(0x110000, dtype=np.int64)
    for texts in batches:
        codes = np.frombuffer("".join(texts).encode("utf-32-le"), dtype=np.uint32)
        counts += np.bincount(codes, minlength=len(counts))
    sums = dict.fromkeys(LETTERS, 0)
    for code in map(int, np.flatnonzero(counts)):
        if chr(code).isalpha():
            sums[_kind(chr(code))] += int(counts[code])
    total = sum(sums.values()) or 1
    return {kind: count / total for kind, count in sums.items()}


def _kind(letter: str) -> str:
    name = unicodedata.name(letter, "")
    if letter.isascii():
        return LETTERS[0]
    return LETTERS[1] if name.startswith("CJK ") else LETTERS[2] if name.startswith(UNSPACED) else LETTERS[3]


def is_spaced(text: str) -> bool:
    """Whether a text has spaces between its words: at most half of its letters are of scripts that are written without."""
    kinds = [_kind(letter) for letter in text if letter.isalpha()]
    return 2 * sum(kind in LETTERS[1:3] for kind in kinds) <= len(kinds)


def writes_spaces(character: str) -> bool | None:
    """Whether words are separated by spaces in the script of a letter, mark or punctuation; None where it does not tell."""
    name, category = unicodedata.name(character, ""), unicodedata.category(character)[0]
    if name.startswith((*UNSPACED, "KATAKANA-HIRAGANA ", "HALFWIDTH KATAKANA ")):
        return False
    if category == "P" and unicodedata.east_asian_width(character) in "WF":  # as a full stop of Chinese
        return False
    return True if category in "LM" else None


def by_script(shares: Mapping[str, float]) -> TextTokenizer:
    """The tokenizer for texts with such letters (:func:`letter_shares`).

    13a where at most 0.5% of the letters are not a to z (English). Otherwise, where at least 5% belong to scripts that are
    written without spaces: zh if four fifths of these are Chinese characters, else char (Japanese, Thai, …). Otherwise intl.
    """
    ascii_, chinese, unspaced, _ = (shares[kind] for kind in LETTERS)
    if sum(shares.values()) - ascii_ <= SOME:
        return ENGLISH
    if chinese + unspaced < FEW:
        return TOKENIZERS["intl"]
    return TOKENIZERS["zh" if chinese >= 4 * unspaced else "char"]
