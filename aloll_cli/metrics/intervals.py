"""Bootstrap intervals: means and ratios over prompts. Pure: arrays in, numbers out."""

from __future__ import annotations

from math import exp
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from aloll_cli.arrays import FloatArray


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
