"""Checkpoint selection: which checkpoint becomes the policy, when training stops early, and whether that beats the start."""

from __future__ import annotations

from abc import ABC
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from aloll_cli.metrics.crossed import crossed
from aloll_cli.metrics.intervals import FEW_PROMPTS
from aloll_cli.schema import numbers
from aloll_cli.visible import fixed

if TYPE_CHECKING:
    from aloll_cli.metrics.crossed import Estimate

MOST_READ = 10_000  # logged responses that an evaluation by likelihood reads

Record = dict[str, Any]  # of an evaluation, a line of evaluations.jsonl
STOPPED_EARLY = "stopped_early"  # key in the last evaluation of a run that stopped early: {"after": …, "of": …, "patience": …}


@dataclass(kw_only=True)
class Select(ABC):
    """The checkpoint that becomes the policy."""

    keeps_best: ClassVar[bool]

    @property
    def given(self) -> dict[str, float]:
        """The options that are set; without any, the score alone decides."""
        return {name: value for name, value in vars(self).items() if value}

    @property
    def needs_kl(self) -> bool:
        """Whether evaluations have to estimate the KL to the reference."""
        return False

    @property
    def may_refuse(self) -> bool:
        """Whether no checkpoint may be chosen, so that the initial policy stays."""
        return False

    def objective(self, record: Record) -> float | None:
        """What the best checkpoint has most of; None for one that may not be chosen."""
        return float(record["score"])


@dataclass(kw_only=True)
class Last(Select):
    """The one after the last step."""

    keeps_best = False


@dataclass(kw_only=True)
class Best(Select):
    """The one with the highest validation reward, less λ times its KL to the reference, among those within the bounds."""

    keeps_best = True

    kl_weight: float = field(metadata=numbers("[0, 1000]", 0.01))  # reward per nat
    max_kl_per_token: float | None = field(metadata=numbers("(0, inf)", 0.1))  # nats
    max_repeated: float | None = field(metadata=numbers("(0, 1)", 0.1))  # share of responses

    @property
    def needs_kl(self) -> bool:
        return self.kl_weight > 0 or self.max_kl_per_token is not None

    @property
    def may_refuse(self) -> bool:
        return self.max_kl_per_token is not None or self.max_repeated is not None

    def objective(self, record: Record) -> float | None:
        """Reward − λ · KL; None beyond a bound.

        Args:
            record: an evaluation, with "score", "repeated" and, under ``needs_kl``, "kl" and "kl_per_token".
        """
        bounds = {"kl_per_token": self.max_kl_per_token, "repeated": self.max_repeated}
        if any(bound is not None and record[name] > bound for name, bound in bounds.items()):
            return None
        return float(record["score"] - (self.kl_weight * record["kl"] if self.kl_weight else 0.0))


def objective_of(record: Record) -> float | None:
    """What checkpoints are compared by: the score, unless the evaluation has an objective of its own; None: not to be chosen."""
    value: float | None = record.get("objective", record["score"])
    return value


def selected_step(records: list[Record], by_score: bool) -> int:
    """The step of the selected checkpoint: the best one, the earliest of equal ones; or the last.

    The initial policy is selected where no checkpoint may be.
    """
    if not by_score:
        return int(records[-1]["update"])
    trained = [(objective_of(record), -record["update"]) for record in records if record["update"]]
    allowed = [(objective, place) for objective, place in trained if objective is not None]
    return -int(max(allowed)[1]) if allowed else int(records[0]["update"])


def stops_early(records: list[Record], patience: int) -> bool:
    """Whether the last evaluations, so many as ``patience`` says, brought no better checkpoint than those before."""
    best = selected_step(records, by_score=True)
    return len([record for record in records if record["update"] > best]) >= patience


def early_stop_sentence(found: dict[str, int]) -> str:
    """What a run says that stopped early."""
    count = f"{found['patience']} evaluations" if found["patience"] > 1 else "one evaluation"
    return f"training stopped early, after step {found['after']} of {found['of']}: no better checkpoint in {count} (early_stop)"


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
    line = f"{which} checkpoint: step {step} of {updates} (validation {label} {fixed(record['score'], 4)}"
    if "kl" in record:
        line += f", KL {record['kl']:.2f} nats"
    if record is initial:
        what = "no checkpoint is within the bounds of select.max_kl_per_token and select.max_repeated"
        return f"{line}): the initial policy", f"{what}, so the initial policy is kept; try a smaller optimizer.lr or eval_every"
    found = difference(initial, record)
    same = "responses" in record and record["responses"] == initial.get("responses")
    sides = f"initial policy ({fixed(initial['score'], 3)})"
    policy = f"the {which} checkpoint (step {step}: validation {label} {fixed(record['score'], 3)})"
    if same and step > 0:
        hint = "the steps were too small or too few; try a greater optimizer.lr or updates"
        return f"{line})", f"{policy} responds to validation prompts exactly as the initial policy: {hint}"
    if found is None:
        is_better = record["score"] > initial["score"]
        return f"{line})", None if is_better else f"{policy} does not beat the {sides}; try a smaller optimizer.lr"
    low, high = found.ci95
    paired = f"{fixed(found.mean, 3, '+')} [{fixed(low, 3)}, {fixed(high, 3)}]"
    line += f"; paired difference to the initial policy over {found.prompts} prompts: {paired})"
    if low > 0:
        return line, None
    verb, meaning = "does not beat", "nothing was learned that validation can tell"
    if high < 0:
        verb, meaning = "is worse than", "try a smaller optimizer.lr"
    return line, f"{policy} {verb} the {sides} in a paired comparison over {found.prompts} prompts: {paired}; {meaning}"
