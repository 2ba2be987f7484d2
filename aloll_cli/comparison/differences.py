"""Compare methods: mean rewards, gains over the reference and differences to a baseline, paired by prompt and by seed.

Runs that differ only in their seed are one method. Its confidence intervals cover both samples, of prompts and of training seeds
(metrics/crossed.py); with one seed they cover the prompts alone and say so. What all runs share is given: the data, the
reference and its samples, a fitted reward. Several differences to one baseline are tested together by Holm's correction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from aloll_cli.comparison.grouping import MADE_OF, Method, best, methods, sets_apart
from aloll_cli.comparison.runs import Run
from aloll_cli.errors import UserError
from aloll_cli.metrics.crossed import difference, holm
from aloll_cli.metrics.intervals import FEW_PROMPTS

if TYPE_CHECKING:
    from aloll_cli.arrays import FloatArray

BASELINE = "nll"  # the variant that others are compared with by default
ESTIMATES = {  # by role of the reward: names of the mean reward, of the gain over the reference, of the difference to a baseline
    "reward": ("reward", "gain", "difference"),
    "test_reward": ("held_out_reward", "held_out_gain", "held_out_difference"),
}

AT_EQUAL_LENGTH = {  # by role of the reward: names of the gain at equal length, and of its difference to a baseline's
    "reward": ("length_controlled_gain", "length_controlled_difference"),
    "test_reward": ("length_controlled_held_out_gain", "length_controlled_held_out_difference"),
}
ENOUGH_SEEDS = 5  # fewer give no verdict: their intervals hold, but say little
SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Row:
    """A method with its estimates: one row of a comparison table.

    Attributes:
        method: the method.
        against: the baseline that it is compared with; None if it is a baseline itself, or if no baseline is comparable.
        estimates: by the names in ESTIMATES and AT_EQUAL_LENGTH, see :func:`estimated`; estimates that do not apply are absent.
    """

    method: Method
    against: Method | None
    estimates: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Comparison:
    """A table of methods.

    Attributes:
        rows: one per method.
        best_of: the options whose values were selected by validation score.
    """

    rows: list[Row]
    best_of: tuple[str, ...] = ()

    @property
    def methods(self) -> list[Method]:
        return [row.method for row in self.rows]

    @property
    def runs(self) -> list[Run]:
        return [run for method in self.methods for run in method.runs]

    @property
    def is_single(self) -> bool:
        """Whether there is only one run, and no other was dropped in favour of it by ``best_of``."""
        return len(self.runs) == 1 and not self.methods[0].rivals

    @property
    def counted(self) -> str:
        """``3 runs``."""
        return f"{len(self.runs)} run" + "s" * (len(self.runs) != 1)

    @property
    def heading(self) -> str:
        """``vs nll``: what the differences are to, as the heading of a column."""
        names = {row.against.variant: row.against.name for row in self.rows if row.against}
        variants = [row.method.variant for row in self.rows if row.against]
        return "vs " + ", ".join(name if variant in variants else variant for variant, name in names.items())


def compared(runs: Sequence[Run], against: str | Run | None = None, best_of: Sequence[str] = ()) -> Comparison:
    """Group runs by method and compare the methods.

    Args:
        runs: in the order of the table; duplicates are dropped.
        against: the baseline: a variant's name, or one of the runs, for that run's method. None: nll, or the first method if
            there is no nll.
        best_of: of methods that differ only in these options, keep the one with the best validation score.

    Raises:
        UserError: no run matches ``against``, or ``best_of`` names an option that cannot be selected.
    """
    found = methods(runs)
    chosen = best(found, best_of) if best_of else found
    baselines = _baselines(chosen, against)
    partners = [None if method in baselines else _nearest(method, baselines) for method in chosen]
    if against is None and not any(partners):
        partners = [None, *(_nearest(method, chosen[:1]) for method in chosen[1:])]
    pairs = list(zip(chosen, partners, strict=True))
    rows = [Row(method, other, _estimates(method, other)) for method, other in pairs]
    for *_, name in (*ESTIMATES.values(), *AT_EQUAL_LENGTH.values()):
        _correct(rows, name)
    return Comparison(rows, tuple(best_of))


def _baselines(found: Sequence[Method], against: str | Run | None) -> list[Method]:
    if isinstance(against, Run):
        own = [method for method in found if any(run.name == against.name for run in method.runs)]
        if not own:
            what = f"against: {against.name} is not in the table: best_of= selected a run with another value of the option."
            raise UserError(what, f"Use against={against.variant}, or leave out best_of=.")
        return own
    baselines = [method for method in found if method.variant == (BASELINE if against is None else against)]
    if against is not None and not baselines:
        there = ", ".join(dict.fromkeys(method.variant for method in found))
        raise UserError(
            f"against={against}: no run has this variant, and no such folder exists.",
            f"Variants of the runs: {there}. Or name the metrics folder of a run: against=FOLDER.",
        )
    return baselines


def _nearest(method: Method, baselines: Sequence[Method]) -> Method | None:
    """The comparable baseline that shares the most with a method: data and reference first, then options, then seeds."""
    mine = method.runs[0]

    def nearness(other: Method) -> tuple[int, int, int]:
        its = other.runs[0]
        made_of = sum(mine.made_of.get(role) == its.made_of.get(role) for role in MADE_OF)
        options = sum(mine.options.get(key) == value for key, value in its.options.items() if sets_apart(key))
        return made_of, options, len(set(method.seeds) & set(other.seeds))

    alike = [other for other in baselines if other is not method and mine.is_comparable(other.runs[0])]
    return max(alike, key=nearness, default=None)


def _estimates(method: Method, other: Method | None) -> dict[str, dict[str, Any]]:
    """The estimates of a method, by the names in ESTIMATES and AT_EQUAL_LENGTH."""
    prompts = method.runs[0].prompts
    found: dict[str, dict[str, Any]] = {}
    for role, (rewards, gain, to_baseline) in ESTIMATES.items():
        mine = {run.seed: run.by_prompt(prompts, role) for run in method.runs}
        if not all(len(values) for values in mine.values()):
            continue
        reference = {run.seed: run.by_prompt(prompts, role, "reference") for run in method.runs}
        none = np.zeros(len(prompts))  # to which a mean reward is the difference
        found[rewards] = estimated(mine, dict.fromkeys(mine, none))
        found[gain] = estimated(mine, reference)
        if other is not None:
            found[to_baseline] = estimated(mine, {run.seed: run.by_prompt(prompts, role) for run in other.runs})
        found |= _at_equal_length(method, other, role)
    return found


def _at_equal_length(method: Method, other: Method | None, role: str) -> dict[str, dict[str, Any]]:
    """The gain over the reference at equal length, and its difference to the baseline's; without those that do not exist.

    Equal length is that of the reference: a difference needs the same reference's responses on both sides.
    """
    prompts, others = method.runs[0].prompts, other.runs if other else ()
    controlled, to_baseline = AT_EQUAL_LENGTH[role]
    mine, its = (
        _without_none({run.seed: run.gains_at_equal_length(prompts, role) for run in side}) for side in (method.runs, others)
    )
    found = {controlled: estimated(mine, dict.fromkeys(mine, np.zeros(len(prompts))))} if mine else {}
    if mine and its and _share_reference([*method.runs, *others], role):
        found[to_baseline] = estimated(mine, its)
    return found


def _share_reference(runs: Sequence[Run], role: str) -> bool:
    """Whether the reference has the same rewards and lengths in all runs."""
    prompts = runs[0].prompts
    first, *others = ((run.by_prompt(prompts, role, "reference"), run.words_by_prompt(prompts, "reference")) for run in runs)
    return all(np.array_equal(mine, its) for other in others for mine, its in zip(first, other, strict=True))


def _without_none(values: Mapping[int | None, FloatArray | None]) -> dict[int | None, FloatArray] | None:
    """The same values; None if one is missing."""
    there = {seed: value for seed, value in values.items() if value is not None}
    return there if len(there) == len(values) else None


def estimated(mine: Mapping[int | None, FloatArray], others: Mapping[int | None, FloatArray]) -> dict[str, Any]:
    """The mean difference of two methods with its interval over prompts and seeds, as tables and JSON hold it.

    Args:
        mine: (G,) rewards of G prompts, by seed.
        others: the same of what they are compared with.

    Returns:
        ``mean``; ``ci95``, [lo, hi], or None with fewer than 10 prompts; ``prompts``; ``seeds``, their number, or both numbers
        where the sides have different ones; ``includes_seeds``, whether the interval includes the variance of seeds; ``df`` and
        ``p_value``, None without an interval; ``by_seed``, the mean difference of each shared seed.
    """
    by_seed = [float((values - others[seed]).mean()) for seed, values in mine.items() if seed in others]
    count = len(next(iter(mine.values())))
    if count < FEW_PROMPTS:
        mean = float(np.mean([*mine.values()]) - np.mean([*others.values()]))
        seeds = [len(mine)] if mine.keys() == others.keys() else [len(mine), len(others)]
        nothing = {"ci95": None, "includes_seeds": False, "df": None, "p_value": None}
        return {"mean": mean, "prompts": count, "seeds": seeds, "by_seed": by_seed} | nothing
    estimate = difference(mine, others)
    return {
        "mean": estimate.mean, "ci95": list(estimate.ci95), "prompts": count, "seeds": list(estimate.seeds),
        "includes_seeds": estimate.includes_seeds, "df": estimate.df, "p_value": estimate.p_value, "by_seed": by_seed,
    }  # fmt: skip


def _correct(rows: Sequence[Row], name: str) -> None:
    """Add ``p_holm`` and ``verdict`` to the differences: Holm's correction over all methods with the same baseline.

    The verdict is "higher", "lower" or "no significant difference"; None with fewer than 5 seeds on a side.
    """
    tested = [row for row in rows if name in row.estimates and row.estimates[name]["p_value"] is not None]
    for baseline in {id(row.against): row.against for row in tested}.values():
        family = [row.estimates[name] for row in tested if row.against is baseline]
        for estimate, p_holm in zip(family, holm([estimate["p_value"] for estimate in family]), strict=True):
            enough = min(estimate["seeds"]) >= ENOUGH_SEEDS
            clear = "higher" if estimate["mean"] > 0 else "lower"
            verdict = clear if p_holm < SIGNIFICANT else "no significant difference"
            estimate |= {"p_holm": p_holm, "verdict": verdict if enough else None, "family": len(family)}
