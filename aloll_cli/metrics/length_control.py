"""The gain at equal length. Pure functions: arrays in, numbers out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from aloll_cli.metrics.intervals import interval_of, resampled_sums

if TYPE_CHECKING:
    from aloll_cli.arrays import FloatArray


def length_controlled(gains: FloatArray, longer: FloatArray, resamples: int) -> dict[str, Any] | None:
    """The gain that a regression on the difference in length predicts for responses of equal length.

    By ordinary least squares over prompts g,

        gain_g = α + β · z_g + ε_g,   z_g = Δlength_g / s

    where Δlength is policy minus reference and s its standard deviation over prompts. z is scaled, not centred, so that z = 0 is
    equal length: the length-controlled gain is α = mean(gain) − β · mean(z). This is the idea of length-controlled AlpacaEval
    (Dubois et al. 2024, arXiv 2404.04475), which fits a logistic regression of win rates with the term tanh(z) and predicts
    at 0; here the outcome is a difference of rewards, so that the regression is linear. Where most responses of one side are
    longer, equal length is at the edge of the data, and the interval grows.

    Args:
        gains: (G,) policy minus reference reward, by prompt.
        longer: (G,) policy minus reference length, by prompt.
        resamples: number of bootstrap resamples over prompts, which repeat the whole fit.

    Returns:
        ``mean`` (α) with ``ci95``; ``slope`` (β), the gain per standard deviation s of the length difference; and
        ``length_difference``, the mean of Δlength. With no difference in any prompt, β is 0. None where all prompts have the
        same difference other than 0: α and β can then not be told apart.
    """
    varies = bool(np.ptp(longer) > 0)
    if longer.any() and not varies:
        return None
    z = longer / longer.std() if varies else longer
    rows = np.stack([np.ones_like(z), z, gains, z * z, z * gains], axis=1)
    slope, at_zero = _fitted(rows.sum(axis=0)[None])
    return {
        "mean": float(at_zero[0]),
        "ci95": interval_of(len(rows), lambda: _fitted(resampled_sums(rows, resamples))[1]),
        "slope": float(slope[0]),
        "length_difference": float(longer.mean()),
    }


def _fitted(sums: FloatArray) -> tuple[FloatArray, FloatArray]:
    """β and α by row, from (R, 5) sums of 1, z, gain, z², z · gain; β is 0 in a resample without variation of z."""
    n, z, gain, squares, products = sums.T
    spread = n * squares - z * z
    varies = spread > 1e-9 * n * squares
    slope = np.where(varies, n * products - z * gain, 0.0) / np.where(varies, spread, 1.0)
    return slope, (gain - slope * z) / n
