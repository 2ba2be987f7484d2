"""What the methods of a variant must return; whatever else one returns is refused by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from aloll_cli.errors import UserError
from aloll_cli.schema import name_of

if TYPE_CHECKING:
    from aloll_cli.arrays import FloatArray
    from aloll_cli.variants.base import Batch, Logged, Online, Regression, Variant

SHAPES = "In its loss, sum over tokens, and leave the mean over units to training."


def checked_loss(variant: Variant, batch: Batch, units: int) -> torch.Tensor:
    """(U,) a variant's losses.

    Raises:
        UserError: it has another shape, which would be averaged over something else than units; it has no gradient; or the
            variant has altered the batch's log-probs.
    """
    before = batch.logps._version
    loss = variant.loss(batch)
    name = f"variant={name_of(variant)}"
    if not isinstance(loss, torch.Tensor):
        raise UserError(f"{name} returned a loss of type {type(loss).__name__}; expected a tensor ({units},).", SHAPES)
    if tuple(loss.shape) != (units,):
        raise UserError(f"{name} returned a loss of shape {tuple(loss.shape)}; expected ({units},), one per unit.", SHAPES)
    if batch.logps._version != before:
        raise UserError(f"{name} changes batch.logps in place.", "In its loss, compute new tensors: x = x + y, not x += y.")
    if batch.logps.requires_grad and not loss.requires_grad:
        raise UserError(f"{name} returned a loss without a gradient.", "In its loss, do not detach batch.logps everywhere.")
    return loss


def checked_metrics(variant: Variant, batch: Batch, units: int) -> dict[str, torch.Tensor]:
    """Metrics of a variant. Raises UserError for one that is not a tensor with a value per response or per unit."""
    found = variant.metrics(batch)
    name, hint = f"variant={name_of(variant)}", "One tensor per name: (B,) with a value per response, or (U,) with one per unit."
    if not isinstance(found, dict):
        raise UserError(f"metrics of {name} returned {type(found).__name__}; expected a dict.", hint)
    sizes = (len(batch.weights), units)
    for metric, values in found.items():
        if not isinstance(values, torch.Tensor) or tuple(values.shape) not in [(size,) for size in sizes]:
            given = f"shape {tuple(values.shape)}" if isinstance(values, torch.Tensor) else f"type {type(values).__name__}"
            raise UserError(f"metric {metric} of {name} has {given}; expected ({sizes[0]},) or ({sizes[1]},).", hint)
    return found


def checked_advantages(variant: Online, rewards: FloatArray, log_ratios: FloatArray, values: FloatArray) -> FloatArray:
    """(N,) a variant's advantages. Raises UserError for another shape, and where one is no finite number."""
    return _numbers("advantages", variant, variant.advantages(rewards, log_ratios, values), len(rewards))


def checked_targets(variant: Regression, logged: Logged) -> FloatArray:
    """(N,) a variant's targets. Raises UserError for another shape, and where one is no finite number."""
    return _numbers("targets", variant, variant.targets(logged), len(logged.rewards))


def _numbers(what: str, variant: Variant, found: FloatArray, count: int) -> FloatArray:
    if np.shape(found) != (count,) or not np.isfinite(found).all():
        given = "some that are not finite" if np.shape(found) == (count,) else f"values of shape {np.shape(found)}"
        raise UserError(f"{what} of variant={name_of(variant)} returned {given}.", f"Expected ({count},) finite numbers.")
    return found
