"""Length and diversity of a set of responses, with intervals. Pure functions: texts in, numbers out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from aloll_cli.metrics.intervals import FEW_PROMPTS, by_prompt, mean_with_interval
from aloll_cli.metrics.words import ENGLISH, TextTokenizer

if TYPE_CHECKING:
    from aloll_cli.arrays import FloatArray


def words(texts: Sequence[str], tokenizer: TextTokenizer = ENGLISH) -> list[str]:
    """Lower-cased words of all texts in order."""
    return [word for text in texts for word in tokenizer.words(text.lower())]


def distinct(texts: Sequence[str], n: int, first_words: int | None = None, tokenizer: TextTokenizer = ENGLISH) -> float:
    """distinct-n: unique n-grams / all n-grams of all responses, in [0, 1]; 0 if there are no n-grams.

    An n-gram never spans two responses.

    Args:
        texts: responses, in the same prompt order for both sides of a comparison.
        n: length of the n-grams, in lower-cased words.
        first_words: use only the first so many words of the corpus, because distinct-n falls as a corpus grows.
        tokenizer: what counts as a word.
    """
    grams: list[tuple[str, ...]] = []
    left = first_words
    for text in texts:
        tokens = tokenizer.words(text.lower())
        if left is not None:
            tokens = tokens[:left]
            left -= len(tokens)
        grams += zip(*(tokens[i:] for i in range(n)), strict=False)
    return len(set(grams)) / len(grams) if grams else 0.0


def different(texts: Sequence[str]) -> float:
    """Unique responses / all responses, in (0, 1]. A low value means that many prompts get the same response."""
    return len({text.strip() for text in texts}) / len(texts)


def distinct_per_word(texts: Sequence[str], n: int, tokenizer: TextTokenizer = ENGLISH) -> float:
    """The other formula for distinct-n in use: unique n-grams / all words; case-sensitive, English split at single spaces."""
    split = [tokenizer.spaced(text) for text in texts]
    grams = {gram for tokens in split for gram in zip(*(tokens[i:] for i in range(n)), strict=False)}
    total = sum(map(len, split))
    return len(grams) / total if total else 0.0


def lengths(texts: Sequence[str], tokenizer: TextTokenizer = ENGLISH) -> FloatArray:
    """(N,) words of each text."""
    return np.array([len(tokenizer.words(text)) for text in texts], dtype=np.float64)


def text_figures(texts: Sequence[str], resamples: int, samples: int = 1, tokenizer: TextTokenizer = ENGLISH) -> dict[str, Any]:
    """Length (mean words of non-empty responses), shares of empty and of unique responses, and both kinds of distinct-n.

    Args:
        texts: responses, those to the same prompt adjacent.
        resamples: number of bootstrap resamples over prompts.
        samples: responses per prompt.
        tokenizer: what counts as a word.
    """
    empty = np.array([not text.strip() for text in texts])
    spoken = by_prompt(np.where(empty, np.nan, lengths(texts, tokenizer)), samples)
    prompts = len(texts) // samples
    none = {"mean": 0.0, "ci95": None if prompts < FEW_PROMPTS else [0.0, 0.0]}
    figures: dict[str, Any] = {
        "length": mean_with_interval(spoken, resamples) if len(spoken) else none,
        "empty": float(np.mean(empty)),
        "different": different(texts),
    }
    for n in (1, 2, 3):
        figures[f"distinct_{n}"] = distinct(texts, n, tokenizer=tokenizer)
        figures[f"distinct_{n}_per_word"] = distinct_per_word(texts, n, tokenizer)
    return figures


def matched_distinct(texts: Sequence[str], other: Sequence[str], tokenizer: TextTokenizer = ENGLISH) -> dict[str, float]:
    """distinct-n of the first M words of ``texts``, where M is the word count of the smaller of the two sides."""
    count = min(len(words(texts, tokenizer)), len(words(other, tokenizer)))
    return {f"distinct_{n}_matched": distinct(texts, n, count, tokenizer) for n in (1, 2, 3)}
