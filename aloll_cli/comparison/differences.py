"""Compare methods: mean rewards, gains over the reference and differences to a baseline, paired by prompt and by seed.

Runs that differ only in their seed are one method; its values are means over seeds. A confidence interval is a bootstrap over
prompts of each prompt's mean over seeds. It covers the sampling of prompts and excludes seed variance. ``by_seed`` holds the
mean of each seed, whose spread shows the seed variance.
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

BASELINE = "nll"  # the variant that others are compared with by default
ESTIMATES = {  # by role of the reward: names of the mean reward, of the gain over the reference, of the difference to a baseline
    "reward": ("reward", "gain", "difference"),
    "test_reward": ("held_out_reward", "held_out_gain", "held_out_difference"),
}

Name = TypeVar("Name", bound=Hashable)
Seed = TypeVar("Seed", bound=Hashable)


@dataclass(frozen=True)
class Row:
    """A method with its estimates: one row of a comparison table.

    Attributes:
        method: the method.
        against: the baseline that it is compared with; None if it is a baseline itself, or if no baseline is comparable.
        estimates: by the names in ESTIMATES, see :func:`estimates`; estimates that do not apply are absent.
    """

    method: Method
    against: Method | None
    estimates: dict[str, dict[str, Any]]

    @property
    def paired_seeds(self) -> list[int | None]:
        """Seeds that both methods have, over which the difference is paired. If empty, means over seeds are compared."""
        return [seed for seed in self.method.seeds if self.against is not None and seed in self.against.seeds]


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
    estimated: dict[Method, dict[str, dict[str, Any]]] = {method: {} for method in chosen}
    for group in _comparable(chosen):
        # all at once, so that all use the same resamples of the same prompts
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


def _comparable(found: Sequence[Method]) -> list[list[Method]]:
    """Group methods by prompts and rewards: only methods of one group can be compared."""
    groups: list[list[Method]] = []
    for method in found:
        alike = next((group for group in groups if method.runs[0].is_comparable(group[0].runs[0])), None)
        groups.append([method]) if alike is None else alike.append(method)
    return groups


def _series(method: Method, other: Method | None, prompts: Sequence[str]) -> dict[str, list[FloatArray]]:
    """The data of each estimate of a method, by the names in ESTIMATES: (G,) values of G prompts, one array per seed."""
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
    """Differences of (G,) values of the same prompts: seed by seed over shared seeds; if none is shared, to the others' mean."""
    if shared := [seed for seed in mine if seed in others]:
        return [mine[seed] - others[seed] for seed in shared]
    mean = np.mean(list(others.values()), axis=0)
    return [values - mean for values in mine.values()]


def estimates(series: Mapping[Name, Sequence[FloatArray]], resamples: int) -> dict[Name, dict[str, Any]]:
    """Means over seeds and prompts with 95% percentile intervals, all from the same resamples of the prompts.

    Args:
        series: for each name (G,) values of G prompts, one array per seed.
        resamples: number of bootstrap resamples over prompts.

    Returns:
        ``{"mean": …, "ci95": [lo, hi], "by_seed": [one mean per seed]}`` by name.
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
