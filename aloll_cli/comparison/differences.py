"""Runs held against each other: which of them are one method, and how methods differ, paired by prompt and by seed.

Runs that differ in nothing but their seed are one method, and its figures are means over seeds. An interval is a bootstrap over
prompts of each prompt's mean over seeds: it tells the chance of the prompts. The chance of training is in the spread of the
seeds' own means, which stand beside it.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from aloll_cli.comparison.grouping import MADE_OF, Method, best, methods, sets_apart
from aloll_cli.comparison.runs import Run
from aloll_cli.errors import UserError
from aloll_cli.metrics.intervals import percentiles, resampled_sums

if TYPE_CHECKING:
    from aloll_cli.arrays import FloatArray

BASELINE = "nll"  # the variant that others are held against, unless somebody says otherwise
ESTIMATES = {  # by the role of a reward: what is estimated under it, of policies, to the reference, and to another policy
    "reward": ("reward", "gain", "difference"),
    "test_reward": ("held_out_reward", "held_out_gain", "held_out_difference"),
}

Name = TypeVar("Name", bound=Hashable)
Seed = TypeVar("Seed", bound=Hashable)


@dataclass(frozen=True)
class Row:
    """A method with its figures.

    Attributes:
        method: whose they are.
        against: the method it is held against; None where it is a baseline itself, or nothing fits.
        estimates: by the names in ESTIMATES, see :func:`estimates`; what does not apply is not there.
    """

    method: Method
    against: Method | None
    estimates: dict[str, dict[str, Any]]

    @property
    def paired_seeds(self) -> list[int | None]:
        """Those that both have, over which the difference is; where there are none, it is mean against mean."""
        return [seed for seed in self.method.seeds if self.against is not None and seed in self.against.seeds]


@dataclass(frozen=True)
class Comparison:
    """Methods beside each other.

    Attributes:
        rows: one a method.
        best_of: the options whose values validation has chosen.
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
        """Whether there was one run alone: nothing beside it, and nothing that it was preferred to."""
        return len(self.runs) == 1 and not self.methods[0].rivals

    @property
    def counted(self) -> str:
        """``3 runs``."""
        return f"{len(self.runs)} run" + "s" * (len(self.runs) != 1)

    @property
    def heading(self) -> str:
        """With what the differences are, for the head of a column."""
        names = {row.against.variant: row.against.name for row in self.rows if row.against}
        variants = [row.method.variant for row in self.rows if row.against]
        return "vs " + ", ".join(name if variant in variants else variant for variant, name in names.items())


def compared(runs: Sequence[Run], against: str | Run | None = None, best_of: Sequence[str] = ()) -> Comparison:
    """Hold runs against each other, method by method.

    Args:
        runs: in the order of the table; one that is named twice counts once.
        against: a variant's name, or one of the runs, whose method is meant; None: nll, or the first method where there is none.
        best_of: of methods that differ in these options alone, the one with the best validation score stays.

    Raises:
        UserError: nothing has the name, or nothing is to be chosen or to be chosen by.
    """
    found = methods(runs)
    chosen = best(found, best_of) if best_of else found
    baselines = _baselines(chosen, against)
    partners = [None if method in baselines else _nearest(method, baselines) for method in chosen]
    if against is None and not any(partners):
        partners = [None, *(_nearest(method, chosen[:1]) for method in chosen[1:])]
    pairs = list(zip(chosen, partners, strict=True))
    estimated: dict[Method, dict[str, dict[str, Any]]] = {method: {} for method in chosen}
    for group in _judged_alike(chosen):
        # all at once: they see the same resamples of the same prompts
        prompts, resamples = group[0].runs[0].prompts, max(run.resamples for method in group for run in method.runs)
        series = {(m, name): values for m, other in pairs if m in group for name, values in _series(m, other, prompts).items()}
        for (method, name), estimate in estimates(series, resamples).items():
            estimated[method][name] = estimate
    rows = [Row(method, other, estimated[method]) for method, other in pairs]
    return Comparison(rows, tuple(best_of))


def _baselines(found: Sequence[Method], against: str | Run | None) -> list[Method]:
    if isinstance(against, Run):
        own = [method for method in found if any(run.name == against.name for run in method.runs)]
        if not own:
            what = f"against: {against.name} is not in the table: validation preferred another value of what best_of names."
            raise UserError(what, f"against={against.variant}, or leave best_of out.")
        return own
    baselines = [method for method in found if method.variant == (BASELINE if against is None else against)]
    if against is not None and not baselines:
        there = ", ".join(dict.fromkeys(method.variant for method in found))
        raise UserError(
            f"against={against}: none of the runs is of that variant, and there is no such folder.",
            f"Variants here: {there}. Or against=FOLDER with a run's metrics.",
        )
    return baselines


def _nearest(method: Method, baselines: Sequence[Method]) -> Method | None:
    """Of the baselines that were judged alike, the one from the same data and reference, of most options and seeds in common."""
    mine = method.runs[0]

    def nearness(other: Method) -> tuple[int, int, int]:
        its = other.runs[0]
        made_of = sum(mine.made_of.get(role) == its.made_of.get(role) for role in MADE_OF)
        options = sum(mine.options.get(key) == value for key, value in its.options.items() if sets_apart(key))
        return made_of, options, len(set(method.seeds) & set(other.seeds))

    alike = [other for other in baselines if other is not method and mine.is_comparable(other.runs[0])]
    return max(alike, key=nearness, default=None)


def _judged_alike(found: Sequence[Method]) -> list[list[Method]]:
    """Methods in groups that answered the same prompts and were judged by the same rewards."""
    groups: list[list[Method]] = []
    for method in found:
        alike = next((group for group in groups if method.runs[0].is_comparable(group[0].runs[0])), None)
        groups.append([method]) if alike is None else alike.append(method)
    return groups


def _series(method: Method, other: Method | None, prompts: Sequence[str]) -> dict[str, list[FloatArray]]:
    """What is estimated of a method: for each figure that there is (G,) values of the prompts, one array a seed."""
    found: dict[str, list[FloatArray]] = {}
    for role, (rewards, gain, difference) in ESTIMATES.items():
        mine = {run.seed: run.by_prompt(prompts, role) for run in method.runs}
        if not all(len(values) for values in mine.values()):
            continue
        found[rewards] = list(mine.values())
        found[gain] = [mine[run.seed] - run.by_prompt(prompts, role, "reference") for run in method.runs]
        if other is not None:
            found[difference] = paired(mine, {run.seed: run.by_prompt(prompts, role) for run in other.runs})
    return found


def paired(mine: Mapping[Seed, FloatArray], others: Mapping[Seed, FloatArray]) -> list[FloatArray]:
    """Differences of (G,) values of the same prompts: seed by seed where both have it, else to the others' mean."""
    if shared := [seed for seed in mine if seed in others]:
        return [mine[seed] - others[seed] for seed in shared]
    mean = np.mean(list(others.values()), axis=0)
    return [values - mean for values in mine.values()]


def estimates(series: Mapping[Name, Sequence[FloatArray]], resamples: int) -> dict[Name, dict[str, Any]]:
    """Means over seeds and prompts with 95 % percentile intervals, all from the same resamples of the prompts.

    Args:
        series: for each name (G,) values of G prompts, one array a seed.
        resamples: of the bootstrap.

    Returns:
        ``{"mean": …, "ci95": [lo, hi], "by_seed": [one mean a seed]}`` by name.
    """
    if not series:
        return {}
    rows = np.stack([np.mean(values, axis=0) for values in series.values()], axis=1)
    resampled = resampled_sums(rows, resamples) / len(rows)
    return {
        name: {
            "mean": float(rows[:, i].mean()),
            "ci95": percentiles(resampled[:, i]),
            "by_seed": [float(own.mean()) for own in values],
        }
        for i, (name, values) in enumerate(series.items())
    }
