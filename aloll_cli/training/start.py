"""The check before the first step: the initial policy reproduces the stored reference log-probs."""

from __future__ import annotations

import math
import shlex
from pathlib import Path

import numpy as np

from aloll_cli.errors import UserError
from aloll_cli.models.logprobs import ResponseLogps
from aloll_cli.training.batches import batch_logps
from aloll_cli.training.sources import Logps, Rows

ROWS = 64  # that are compared
# largest accepted |ln ρ| / √T, by whether both sides compute in fp32 throughout
TOLERANCE = {True: 1e-4, False: 0.01}


def distance(module: ResponseLogps, rows: Rows, behaviour: Logps, pad: int, batch_tokens: int) -> float:
    """The median |ln ρ| / √T of the first stored rows; ρ is the ratio of T tokens, without dropout, to theirs."""
    module.set_to_train(dropout=False)
    chosen = behaviour.rows[:ROWS].tolist()
    logps = batch_logps(module, rows.responses, chosen, pad, batch_tokens)
    differences = [row - behaviour.row(i) for i, row in zip(chosen, logps, strict=True)]
    return float(np.median([abs(row.sum()) / math.sqrt(len(row)) for row in differences]))


def check_distance(off: float, is_exact: bool, stored: Path) -> None:
    """Raises UserError if importance ratios would not start at 1.

    Args:
        off: the median |ln ρ| / √T.
        is_exact: whether all numbers have 32 bits, also frozen ones.
        stored: the folder of the stored log-probs.
    """
    if off > TOLERANCE[is_exact]:
        what = f"the initial policy does not reproduce the stored reference log-probs: median |ln ρ|/√T = {off:.1e}"
        again = f"If they come from another machine, compute them again: {shlex.join(['rm', '-r', str(stored)])}"
        raise UserError(
            f"{what}, at most {TOLERANCE[is_exact]:g} is accepted.",
            again if is_exact else f"{again}. Else set model.dtype=float32.",
        )
