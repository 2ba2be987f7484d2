"""Bootstrap confidence intervals of means and ratios over prompts. Pure functions: arrays in, numbers out.

A figure is ``{"mean": …, "ci95": [lo, hi]}``; the interval is None for fewer than FEW_PROMPTS prompts. A percentile bootstrap
of n prompts has about √(1 − 1/n) of the width that it should have, and a distribution of means with few distinct values.
"""

from __future__ import annotations

from collections.abc import Callable
from math import exp
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from aloll_cli.arrays import FloatArray

FEW_PROMPTS = 10  # fewer have no interval and no verdict
MANY_PROMPTS = 30  # fewer have an interval with a warning


def bootstrap(values: FloatArray, resamples: int, seed: int = 0) -> tuple[float, float]:
    """95% percentile interval of the mean of N values (one per prompt), resampled with replacement."""
    rng = np.random.default_rng(seed)
    means = np.array([values[rng.integers(0, len(values), len(values))].mean() for _ in range(resamples)])
    lo, hi = percentiles(means)
    return lo, hi


def percentiles(values: FloatArray) -> list[float]:
    """The 2.5th and 97.5th percentile of a statistic's values over the resamples: ``[lo, hi]``."""
    return [float(bound) for bound in np.percentile(values, [2.5, 97.5])]


def resampled_sums(rows: FloatArray, resamples: int, seed: int = 0) -> FloatArray:
    """(resamples, k) sums of (N, k) rows (one per prompt), resampled with replacement."""
    rng = np.random.default_rng(seed)
    return np.array([rows[rng.integers(0, len(rows), len(rows))].sum(axis=0) for _ in range(resamples)])


def interval_of(prompts: int, resampled: Callable[[], FloatArray]) -> list[float] | None:
    """``[lo, hi]`` of a statistic's values over the resamples; None for fewer than FEW_PROMPTS prompts."""
    return percentiles(resampled()) if prompts >= FEW_PROMPTS else None


def mean_with_interval(values: FloatArray, resamples: int) -> dict[str, Any]:
    """``{"mean": …, "ci95": [lo, hi]}`` of (N,) values, one per prompt."""
    few = len(values) < FEW_PROMPTS
    return {"mean": float(np.mean(values)), "ci95": None if few else list(bootstrap(values, resamples))}


def ratio_with_interval(tops: FloatArray, bottoms: FloatArray, resamples: int) -> dict[str, Any]:
    """Σ tops / Σ bottoms of (N,) values (one per prompt) with its interval, for example a mean per token."""

    def resampled() -> FloatArray:
        sums = resampled_sums(np.stack([tops, bottoms], axis=1), resamples)
        ratios: FloatArray = sums[:, 0] / sums[:, 1]
        return ratios

    return {"mean": float(tops.sum() / bottoms.sum()), "ci95": interval_of(len(tops), resampled)}


def exponential(figure: dict[str, Any]) -> dict[str, Any]:
    """exp of a figure and of its interval: a perplexity from nats per token."""
    ci95 = figure["ci95"]
    return {"mean": exp(figure["mean"]), "ci95": None if ci95 is None else [exp(bound) for bound in ci95]}


def likelihood_figures(
    logps: FloatArray, ref_logps: FloatArray, tokens: FloatArray, resamples: int, samples: int = 1
) -> dict[str, Any]:
    """Perplexity of a policy's own responses under the reference, and the KL divergence from it estimated on them.

    Args:
        logps: (N,) ln π(y) of the policy's responses under the policy, responses to the same prompt adjacent.
        ref_logps: (N,) the same responses' ln π_ref(y) under the reference.
        tokens: (N,) tokens per response, including the end-of-sequence token.
        resamples: number of bootstrap resamples over prompts.
        samples: responses per prompt.

    Returns:
        ``perplexity``: exp(−Σ ln π_ref / Σ T). ``kl``: the mean of ln π(y) − ln π_ref(y) in nats per response. It estimates
        KL(π‖π_ref) if responses are plain samples from π (top_p 1, temperature 1, no repetition penalty); with other decoding
        it is the mean log-ratio of the generated responses. ``kl_per_token``: Σ (ln π − ln π_ref) / Σ T.
    """
    sums = {
        name: values.reshape(-1, samples).sum(axis=1)
        for name, values in {"ratio": logps - ref_logps, "nll": -ref_logps, "tokens": tokens}.items()
    }
    surprise = ratio_with_interval(sums["nll"], sums["tokens"], resamples)
    return {
        "perplexity": exponential(surprise),
        "kl": mean_with_interval(sums["ratio"] / samples, resamples),
        "kl_per_token": ratio_with_interval(sums["ratio"], sums["tokens"], resamples),
    }


def by_prompt(values: FloatArray, samples: int) -> FloatArray:
    """Mean per prompt, (G,), of (G · samples,) values in the order of the prompts.

    NaN values are ignored; prompts that have only NaN are dropped.
    """
    rows = values.reshape(-1, samples)
    found = rows[~np.isnan(rows).all(axis=1)]
    means: FloatArray = np.nanmean(found, axis=1)
    return means
