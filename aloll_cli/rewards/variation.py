"""Whether rewards say anything: figures that show rewards which do not vary, saturate under a transform, or overflow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from aloll_cli.arrays import FloatArray

    Stored = Mapping[str, FloatArray]  # by split, (N,) stored rewards

ROUNDING = 1e-6  # relative differences below are rounding: losses and value heads compute in fp32, which keeps 1.2e-7
LARGEST = 1e12  # squares of larger rewards, summed in fp32, come near its end, 3.4e38
EDGE = 1e-3  # a reward in (0, 1) that is so close to an end is saturated
SATURATED = 0.1  # share of saturated rewards from which on a warning is due
ONE_VALUE = 0.95  # share of one and the same reward from which on a warning is due
# standard deviation below which a warning is due: gradients have the scale of rewards, and those of a loss of scale 1 are 1e-3 to
# 1e-4 per weight (a norm of 1 over 10⁶ to 10⁸ weights), so that below they come near AdamW's ε of 1e-8
TINY = 1e-4
NARROW = 0.01  # share of the declared range below which a warning is due
TAILS = 1e-3  # share of their range that the middle 90% of rewards span, below which a warning of outliers is due


def varies(rewards: FloatArray) -> bool:
    """Whether (N,) rewards differ by more than rounding."""
    return len(rewards) > 0 and bool(np.ptp(rewards) > ROUNDING * np.abs(rewards).max())


def spread(rewards: FloatArray) -> str:
    """``between 1 and 5 (5th/50th/95th percentile 1/4/5)``, or ``all 0.5``."""
    if not varies(rewards):
        within = f" to within {np.ptp(rewards):.1g}" if np.ptp(rewards) else ""
        return f"all {rewards[0]:.6g}{within}"
    return f"between {rewards.min():.6g} and {rewards.max():.6g} (5th/50th/95th percentile {percentiles(rewards)})"


def percentiles(values: FloatArray) -> str:
    """The 5th, 50th and 95th percentile: ``1/4/5``."""
    return "/".join(f"{value:.4g}" for value in np.percentile(values, [5, 50, 95]))


def constancy(rewards: FloatArray) -> str | None:
    """That rewards of generated responses tell none from another, as the end of a sentence; None if they do, or there is one."""
    return None if len(rewards) < 2 or varies(rewards) else f"do not vary beyond rounding: they are {spread(rewards)}"


def weakness(rewards: FloatArray, bounds: tuple[float, float]) -> str | None:
    """What makes a signal weak, as the end of a sentence about the rewards; None if nothing does.

    Args:
        rewards: (N,) rewards, at least one.
        bounds: (lo, hi) of the reward, infinite if unbounded.
    """
    if not varies(rewards):
        return f"do not vary beyond rounding: they are {spread(rewards)}, so they say of no response that it is better"
    values, counts = np.unique(rewards, return_counts=True)
    share = counts.max() / len(rewards)
    if share >= ONE_VALUE:
        return f"hardly vary: {share:.1%} of them are {values[counts.argmax()]:.6g}"
    if (deviation := float(rewards.std())) < TINY:
        return (
            f"differ by very little: their standard deviation is {deviation:.2g}, so that gradients come near optimizer.eps, "
            "which damps training; scale them up, in the data or your code, or by reward=mixed with transform=minmax"
        )
    middle = float(np.subtract(*np.percentile(rewards, [95, 5])))
    if middle < TAILS * np.ptp(rewards):
        return (
            f"are decided by a few outliers: 90% of them span {middle:.3g}, and all of them {np.ptp(rewards):.3g} "
            f"({spread(rewards)})"
        )
    width = bounds[1] - bounds[0]
    if np.isfinite(width) and np.ptp(rewards) < NARROW * width:
        return (
            f"span {np.ptp(rewards) / width:.2%} of the declared range [{bounds[0]:g}, {bounds[1]:g}]: they are {spread(rewards)}"
        )
    return None


def saturation(logits: FloatArray) -> float:
    """The share of (N,) numbers whose sigmoid is within EDGE of 0 or 1, so that it hardly tells them from each other."""
    return float(np.mean(np.abs(logits) > np.log(1 / EDGE - 1)))


def saturation_warning(stored: Stored, where: str) -> str | None:
    """A warning if the sigmoid of stored rewards saturates; None if it does not.

    Args:
        stored: by split.
        where: the option that asks for the sigmoid.
    """
    from scipy.special import expit

    every = np.concatenate(list(stored.values()))
    share = saturation(every) if len(every) else 0.0
    if share < SATURATED:
        return None
    return (
        f"{where}: the sigmoid of {share:.1%} of the stored rewards is within {EDGE} of 0 or 1, so that they hardly differ; "
        f"their 5th/50th/95th percentile {percentiles(every)} becomes {percentiles(np.asarray(expit(every)))}"
    )
