"""Checkpoint selection: which checkpoint becomes the policy, and whether it beats the initial policy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from aloll_cli.metrics.crossed import crossed
from aloll_cli.metrics.intervals import FEW_PROMPTS

if TYPE_CHECKING:
    from aloll_cli.metrics.crossed import Estimate

Record = dict[str, Any]  # of an evaluation, a line of evaluations.jsonl


def selected_step(records: list[Record], by_score: bool) -> int:
    """The step of the selected checkpoint: that with the highest score, the earliest of equal ones; or the last."""
    trained = [record for record in records if record["update"]]
    best: Record = max(trained, key=lambda r: (r["score"], -r["update"])) if by_score else trained[-1]
    return int(best["update"])


def difference(initial: Record, record: Record) -> Estimate | None:
    """Mean difference of two evaluations over their prompts, paired: same prompts, same random numbers.

    Where the checkpoint was chosen as the best of several on these prompts, the difference is a little too high: what a policy
    gains is said by test prompts.

    Returns:
        The estimate with a t interval over prompts; None if there are fewer than 10, scores that are not finite, or an evaluation
        of a version that kept no scores by prompt.
    """
    if not all("scores" in each for each in (initial, record)):
        return None
    before, after = np.array(initial["scores"]), np.array(record["scores"])
    is_usable = len(before) >= FEW_PROMPTS and np.isfinite([before, after]).all()
    return crossed((after - before)[:, None]) if is_usable else None


def conclusion(records: list[Record], by_score: bool, updates: int, label: str) -> tuple[str, str | None]:
    """The log line on the selected checkpoint, and a warning if it does not beat the initial policy.

    Args:
        records: all evaluations, that of the initial policy first.
        by_score: whether the best checkpoint is selected, or the last.
        updates: the number of training steps.
        label: name of the score.
    """
    which, step = "best" if by_score else "last", selected_step(records, by_score)
    initial, record = records[0], next(record for record in records if record["update"] == step)
    line = f"{which} checkpoint: step {step} of {updates} (validation {label} {record['score']:.4f}"
    found = difference(initial, record)
    sides = f"initial policy ({initial['score']:.3f})"
    policy = f"the {which} checkpoint (step {step}: validation {label} {record['score']:.3f})"
    if found is None:
        is_better = record["score"] > initial["score"]
        return f"{line})", None if is_better else f"{policy} does not beat the {sides}; try a smaller optimizer.lr"
    low, high = found.ci95
    paired = f"{found.mean:+.3f} [{low:.3f}, {high:.3f}]"
    line += f"; paired difference to the initial policy over {found.prompts} prompts: {paired})"
    if low > 0:
        return line, None
    verb, meaning = "does not beat", "nothing was learned that validation can tell"
    if high < 0:
        verb, meaning = "is worse than", "try a smaller optimizer.lr"
    return line, f"{policy} {verb} the {sides} in a paired comparison over {found.prompts} prompts: {paired}; {meaning}"
