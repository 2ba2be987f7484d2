"""The gain at equal length. Pure functions: arrays in, numbers out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from aloll_cli.metrics.intervals import interval_of, resampled_sums

if TYPE_CHECKING:
    from aloll_cli.arrays import FloatArray

ROUNDING = 1e-4  # relative; lengths may be means over samples, or have been rounded in a file


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


def at_equal_length(gains: FloatArray, longer: FloatArray) -> FloatArray | None:
    """(G,) values by prompt whose mean is the gain at equal length, and whose standard error is that of this estimate.

    They turn the fit of :func:`length_controlled` into a mean, so that what gives an interval for means gives one for gains at
    equal length as well: over several seeds, and for differences (metrics/crossed.py). The value of prompt g is α plus the
    influence of g on it,

        i_g = ε_g · w_g / (1 − h_g),   w_g = 1 − d̄ (d_g − d̄) / var(d),   h_g = (1 + (d_g − d̄)² / var(d)) / G

    with differences in length d, residuals ε and leverages h, and i centred. The variance of their mean includes what the slope's
    uncertainty adds: up to a factor of G / (G − 1) it is HC3 (MacKinnon & White 1985, Journal of Econometrics 29, 305-325).

    Args:
        gains: (G,) policy minus reference reward, by prompt; finite.
        longer: (G,) policy minus reference length in words, by prompt; finite.

    Returns:
        ``gains`` themselves where no prompt has a difference in length. None where all prompts have the same other than 0, or
        where α hangs on a single prompt: there is then nothing that tells α, or its error.
    """
    if not longer.any():
        return gains
    if np.ptp(longer) <= ROUNDING * np.abs(longer).max():
        return None
    centred = longer - longer.mean()
    variance = float(np.mean(centred**2))
    slope = float(np.mean(centred * gains)) / variance
    at_zero = gains.mean() - slope * longer.mean()
    residuals, weights = gains - at_zero - slope * longer, 1 - longer.mean() * centred / variance
    free = 1 - (1 + centred**2 / variance) / len(gains)
    alone = free < ROUNDING  # the line goes through this prompt, whatever its gain
    if (alone & (np.abs(weights) > ROUNDING)).any():
        return None
    influence = np.where(alone, 0.0, residuals * weights / np.where(alone, 1.0, free))
    values: FloatArray = at_zero + influence - influence.mean()
    return values


def _fitted(sums: FloatArray) -> tuple[FloatArray, FloatArray]:
    """β and α by row, from (R, 5) sums of 1, z, gain, z², z · gain; β is 0 in a resample without variation of z."""
    n, z, gain, squares, products = sums.T
    spread = n * squares - z * z
    varies = spread > 1e-9 * n * squares
    slope = np.where(varies, n * products - z * gain, 0.0) / np.where(varies, spread, 1.0)
    return slope, (gain - slope * z) / n
