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


def at_equal_length(gains: FloatArray, longer: FloatArray) -> FloatArray | None:
    """(G,) values by prompt whose mean is the gain at equal length, and whose scatter is that of this mean.

    They turn the fit of :func:`length_controlled` into a mean, so that what gives an interval for means gives one for gains at
    equal length as well: over several seeds and against another method (metrics/crossed.py). Value g is

        α + ε_g · (1 − z̄ (z_g − z̄) / var(z))

    the estimate plus its influence function at g: by how much prompt g moves α (Hampel 1974, JASA 69, 383-393). The variance of
    their mean is White's (1980, Econometrica 48, 817-838) of α, which includes what the slope's uncertainty adds.

    Args:
        gains: (G,) policy minus reference reward, by prompt.
        longer: (G,) policy minus reference length, by prompt.

    Returns:
        ``gains`` themselves where no prompt has a difference in length. None where all prompts have the same other than 0.
    """
    if not longer.any():
        return gains
    centred = longer - longer.mean()
    variance = float(np.mean(centred**2))
    if np.ptp(longer) == 0:
        return None
    slope = float(np.mean(centred * gains)) / variance
    at_zero = gains.mean() - slope * longer.mean()
    residuals = gains - at_zero - slope * longer
    values: FloatArray = at_zero + residuals * (1 - longer.mean() * centred / variance)
    return values


def _fitted(sums: FloatArray) -> tuple[FloatArray, FloatArray]:
    """β and α by row, from (R, 5) sums of 1, z, gain, z², z · gain; β is 0 in a resample without variation of z."""
    n, z, gain, squares, products = sums.T
    spread = n * squares - z * z
    varies = spread > 1e-9 * n * squares
    slope = np.where(varies, n * products - z * gain, 0.0) / np.where(varies, spread, 1.0)
    return slope, (gain - slope * z) / n
