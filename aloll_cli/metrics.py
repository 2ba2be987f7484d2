"""Figures of a set of responses, and intervals for them. Pure: texts and arrays in, numbers out."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from aloll_cli.arrays import FloatArray


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


def bootstrap(values: FloatArray, resamples: int, seed: int = 0) -> tuple[float, float]:
    """95 % percentile interval of the mean of N values (one a prompt), resampled with replacement."""
    rng = np.random.default_rng(seed)
    means = np.array([values[rng.integers(0, len(values), len(values))].mean() for _ in range(resamples)])
    lo, hi = percentiles(means)
    return lo, hi


def percentiles(values: FloatArray) -> list[float]:
    """The middle 95 % of a figure's values over resamples: ``[lo, hi]``."""
    return [float(bound) for bound in np.percentile(values, [2.5, 97.5])]


def resampled_sums(rows: FloatArray, resamples: int, seed: int = 0) -> FloatArray:
    """(resamples, k) sums of (N, k) rows (one a prompt), resampled with replacement."""
    rng = np.random.default_rng(seed)
    return np.array([rows[rng.integers(0, len(rows), len(rows))].sum(axis=0) for _ in range(resamples)])


def mean_with_interval(values: FloatArray, resamples: int) -> dict[str, Any]:
    """``{"mean": …, "ci95": [lo, hi]}``."""
    return {"mean": float(np.mean(values)), "ci95": list(bootstrap(values, resamples))}


def ratio_with_interval(tops: FloatArray, bottoms: FloatArray, resamples: int) -> dict[str, Any]:
    """Σ tops / Σ bottoms of (N,) values (one a prompt) with its interval: a mean of tokens, say, where prompts have several."""
    sums = resampled_sums(np.stack([tops, bottoms], axis=1), resamples)
    return {"mean": float(tops.sum() / bottoms.sum()), "ci95": percentiles(sums[:, 0] / sums[:, 1])}


def likelihood_figures(
    logps: FloatArray, ref_logps: FloatArray, tokens: FloatArray, resamples: int, answers: int = 1
) -> dict[str, Any]:
    """How likely a policy's own answers are under the reference, and how far the policy is from it on them.

    Args:
        logps: (N,) ln π(y) of the policy's answers under itself, those to a prompt together.
        ref_logps: (N,) the same under the reference.
        tokens: (N,) how many tokens each has, the one that ends it included.
        resamples: of the bootstrap over prompts.
        answers: how many each prompt has.

    Returns:
        ``perplexity``: exp(−Σ ln π_ref / Σ T). ``kl``: the mean of ln π(y) − ln π_ref(y), nats an answer, which estimates
        KL(π‖π_ref) where answers are drawn from π itself (top_p 1, temperature 1, no penalty); for other decoding it is the
        log-ratio on the answers that were given. ``kl_per_token``: Σ (ln π − ln π_ref) / Σ T.
    """
    sums = {
        name: values.reshape(-1, answers).sum(axis=1)
        for name, values in {"ratio": logps - ref_logps, "nll": -ref_logps, "tokens": tokens}.items()
    }
    surprise = ratio_with_interval(sums["nll"], sums["tokens"], resamples)
    return {
        "perplexity": {"mean": exp(surprise["mean"]), "ci95": [exp(bound) for bound in surprise["ci95"]]},
        "kl": mean_with_interval(sums["ratio"] / answers, resamples),
        "kl_per_token": ratio_with_interval(sums["ratio"], sums["tokens"], resamples),
    }


def by_prompt(values: FloatArray, answers: int) -> FloatArray:
    """(G,) the mean of each prompt's values, of (G · answers,) values in the order of the prompts; NaN are left out."""
    rows = values.reshape(-1, answers)
    found = rows[~np.isnan(rows).all(axis=1)]
    means: FloatArray = np.nanmean(found, axis=1)
    return means


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
