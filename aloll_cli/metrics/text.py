"""Figures of a set of responses, and intervals for them. Pure: texts and arrays in, numbers out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from aloll_cli.metrics.intervals import by_prompt, mean_with_interval


def words(texts: Sequence[str]) -> list[str]:
    """Lower-cased words of all texts in order, split at white space."""
    return [word for text in texts for word in text.lower().split()]


def distinct(texts: Sequence[str], n: int, first_words: int | None = None) -> float:
    """distinct-n: unique n-grams / all n-grams over all responses, none across two responses; in [0, 1], 0 where there are none.

    Args:
        texts: the responses, in an order that two sides share.
        n: length of the n-grams, in lower-cased white-space words.
        first_words: count only so many words from the beginning (distinct-n falls as a corpus grows).
    """
    grams: list[tuple[str, ...]] = []
    left = first_words
    for text in texts:
        tokens = text.lower().split()
        if left is not None:
            tokens = tokens[:left]
            left -= len(tokens)
        grams += zip(*(tokens[i:] for i in range(n)), strict=False)
    return len(set(grams)) / len(grams) if grams else 0.0


def different(texts: Sequence[str]) -> float:
    """The share of responses that are left when equal ones count once; in (0, 1]. It shows one answer to many prompts."""
    return len({text.strip() for text in texts}) / len(texts)


def distinct_per_word(texts: Sequence[str], n: int) -> float:
    """The other formula in use: case-sensitive, split at single spaces, unique n-grams / all WORDS."""
    split = [text.split(" ") for text in texts]
    grams = {gram for tokens in split for gram in zip(*(tokens[i:] for i in range(n)), strict=False)}
    total = sum(map(len, split))
    return len(grams) / total if total else 0.0


def text_figures(texts: Sequence[str], resamples: int, answers: int = 1) -> dict[str, Any]:
    """Length (words of non-empty responses, a mean over prompts), shares of empty and of different ones, both distinct-n.

    Args:
        texts: responses, those to a prompt together.
        resamples: of the bootstrap over prompts.
        answers: how many responses each prompt has.
    """
    lengths = np.array([len(text.split()) for text in texts], dtype=np.float64)
    spoken = by_prompt(np.where(lengths > 0, lengths, np.nan), answers)
    figures: dict[str, Any] = {
        "length": mean_with_interval(spoken, resamples) if len(spoken) else {"mean": 0.0, "ci95": [0.0, 0.0]},
        "empty": float(np.mean(lengths == 0)),
        "different": different(texts),
    }
    for n in (1, 2, 3):
        figures[f"distinct_{n}"] = distinct(texts, n)
        figures[f"distinct_{n}_per_word"] = distinct_per_word(texts, n)
    return figures


def matched_distinct(texts: Sequence[str], other: Sequence[str]) -> dict[str, float]:
    """distinct-n of the first M words of texts, M being the number of words of the smaller side."""
    count = min(len(words(texts)), len(words(other)))
    return {f"distinct_{n}_matched": distinct(texts, n, first_words=count) for n in (1, 2, 3)}
