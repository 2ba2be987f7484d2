"""Group runs by method, find the options in which methods differ, and select option values by validation score."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from statistics import fmean
from typing import Any

from aloll_cli.comparison.runs import Run
from aloll_cli.errors import UserError
from aloll_cli.schema import fingerprint, unknown_key

MADE_OF = ("data", "reference")  # inputs that do not depend on the policy's seed
EXPLAINING = ("task", "reference", "model", "adapter")  # groups of options whose differences tell why these inputs differ


@dataclass(frozen=True, eq=False)
class Method:
    """Runs that differ only in their seed.

    Attributes:
        told: the options, besides the variant, in which it differs from other methods: ``{"optimizer.lr": 0.001}``.
        runs: one per seed, with the same options, and built by the same code from the same files.
        rivals: methods with a lower validation score that ``best_of`` dropped in favour of it, the best of them first.
        judged: the runs whose seeds all rivals share, which its validation score is over; empty: all runs.
    """

    told: dict[str, Any]
    runs: tuple[Run, ...]
    rivals: tuple[Method, ...] = ()
    judged: tuple[Run, ...] = ()

    @property
    def variant(self) -> str:
        return self.runs[0].variant

    @property
    def seeds(self) -> list[int | None]:
        return [run.seed for run in self.runs]

    @property
    def seed(self) -> str:
        """Its seeds, ``1,2``; empty for an external policy (``policy=FOLDER``)."""
        return _seeds(self.runs)

    @property
    def judged_over(self) -> str:
        """The seeds that its validation score is over, ``1,2``."""
        return _seeds(self.judged or self.runs)

    @property
    def setting(self) -> str:
        """The options in which it differs from other methods, as on the command line: ``optimizer.lr=0.001``."""
        return typed(self.told)

    @property
    def name(self) -> str:
        return f"{self.variant} {self.setting}".strip()

    @property
    def validation(self) -> float | None:
        """Mean validation score over the runs in ``judged``; None if a run has no validation score."""
        scores = [run.validation for run in self.judged or self.runs]
        return None if None in scores else fmean(score for score in scores if score is not None)

    def cost(self, of: str) -> float | None:
        """Mean over seeds of a training cost, see :meth:`Run.cost`; None for a policy that was not trained here."""
        mean: float | None = over_seeds([run.cost(of) for run in self.runs])
        return mean


def methods(runs: Sequence[Run]) -> list[Method]:
    """Group runs that differ only in their seed: variants in the order of the runs, then sorted by option values."""
    distinct = list({run.name: run for run in runs}.values())
    by_options = list(zip(settings_apart([run.options for run in distinct]), distinct, strict=True))
    everywhere = [] if _explained(by_options) else _roles_apart(by_options)
    together: list[Method] = []
    for alike in _grouped(by_options):
        # no option shows these differences, for example rows that were added to a file, or code that was changed
        apart = dict.fromkeys([*everywhere, *_roles_apart(alike)])
        for group in _by_recipe(_grouped([(told | {role: run.made_of.get(role) for role in apart}, run) for told, run in alike])):
            if len({run.seed for _, run in group}) == len(group):
                together.append(Method(group[0][0], tuple(sorted((run for _, run in group), key=lambda run: run.seed or 0))))
            else:  # several runs of one seed, for example of an older version
                together += [Method(told | {"fingerprint": run.fingerprint}, (run,)) for told, run in group]
    variants = list(dict.fromkeys(method.variant for method in together))
    return sorted(together, key=lambda m: (variants.index(m.variant), [_rank(value) for value in m.told.values()]))


def _roles_apart(told: Sequence[tuple[dict[str, Any], Run]]) -> list[str]:
    """The inputs in which some runs differ."""
    return [role for role in MADE_OF if len({run.made_of.get(role) for _, run in told}) > 1]


def _explained(told: Sequence[tuple[dict[str, Any], Run]]) -> bool:
    """Whether options that runs differ in tell why their inputs may differ."""
    return any(key.split(".")[0] in EXPLAINING for options, _ in told for key in options)


def _by_recipe(groups: list[list[tuple[dict[str, Any], Run]]]) -> list[list[tuple[dict[str, Any], Run]]]:
    """Groups of runs with the same options and inputs, split where their policies' recipes differ in more than the seed."""
    found = []
    for group in groups:
        recipes = {run.name: fingerprint(run.method)[:6] for _, run in group}
        if len(set(recipes.values())) > 1:
            found += _grouped([(told | {"recipe": recipes[run.name]}, run) for told, run in group])
        else:
            found.append(group)
    return found


def _grouped(told: Sequence[tuple[dict[str, Any], Run]]) -> list[list[tuple[dict[str, Any], Run]]]:
    """Group runs by variant and distinguishing options."""
    groups: dict[tuple[str, str], list[tuple[dict[str, Any], Run]]] = {}
    for options, run in told:
        groups.setdefault((run.variant, typed(options)), []).append((options, run))
    return list(groups.values())


def _rank(value: Any) -> tuple[bool, float, str]:
    """Sort key: numbers by size, then everything else by name."""
    is_number = isinstance(value, int | float)
    return (not is_number, float(value) if is_number else 0.0, str(value))


def best(found: Sequence[Method], options: Sequence[str]) -> list[Method]:
    """Of methods that differ only in some options, keep the one with the highest validation score; test scores are not used.

    If methods have different seeds, the scores are over the seeds that all share. So a value can be selected with one seed
    and more seeds be run for that value only.

    Raises:
        UserError: no run has such an option, all have the same value, or a run has no validation score.
    """
    keys = chosen_keys(options, [run.options for method in found for run in method.runs])
    groups: dict[tuple[str, str], list[Method]] = {}
    for method in found:
        rest = {key: value for key, value in method.told.items() if key not in keys}
        groups.setdefault((method.variant, typed(rest)), []).append(method)
    return [_best_of(group) for group in groups.values()]


def _best_of(group: list[Method]) -> Method:
    if len(group) == 1:
        return group[0]
    for method in group[1:]:
        if not method.runs[0].is_comparable(group[0].runs[0]):
            what = f"best_of: {group[0].runs[0].name} and {method.runs[0].name} differ in their prompts or rewards."
            raise UserError(what, "Use best_of= with runs of the same task, split and reward, or leave it out to see all runs.")
    shared = set.intersection(*(set(method.seeds) for method in group))
    if not shared:
        seeds = "; ".join(f"{method.setting} has seed {method.seed}" for method in group)
        raise UserError(
            f"best_of: no seed was run with all values, so their validation scores cannot be compared: {seeds}.",
            "Train all of them with one seed, for example seed=1, or leave best_of= out.",
        )
    group = [replace(method, judged=tuple(run for run in method.runs if run.seed in shared)) for method in group]
    scored = [(method.validation, method) for method in group]
    for score, method in scored:
        if score is None:
            what = f"best_of: {method.runs[0].name} has no validation scores: its policy was trained elsewhere or was removed."
            raise UserError(what, "Train it again with aloll train …, or name other runs with runs=[FOLDER,…].")
    first, *others = sorted(scored, key=lambda pair: pair[0] or 0.0, reverse=True)
    return replace(first[1], rivals=tuple(method for _, method in others))


def _seeds(runs: Sequence[Run]) -> str:
    return ",".join(str(run.seed) for run in runs if run.seed is not None)


def chosen_keys(options: Sequence[str], configurations: Sequence[Mapping[str, Any]]) -> list[str]:
    """The dotted keys of the options or groups that ``best_of`` names.

    Raises:
        UserError: no configuration has such an option, all have the same value, or it is the seed or the variant.
    """
    told = dict.fromkeys(key for one in settings_apart(configurations) for key in one)
    known = {key for one in configurations for key in one}
    return [_key(option, known, list(told)) for option in options]


def _key(option: str, known: set[str], told: Sequence[str]) -> str:
    key = option if option in known else f"{option}.name"
    if key in ("seed", "variant.name"):
        raise UserError(
            f"best_of={option}: variants and seeds are compared, not selected.",
            "Name an option, for example best_of=optimizer.lr.",
        )
    if key not in known:
        what, hint = unknown_key(option, sorted(known)).args
        raise UserError(f"best_of: {what}", hint)
    if key not in told:
        differing = ", ".join(map(option_of, told)) or "nothing"
        hint = f"Besides variant and seed they differ in: {differing}."
        raise UserError(f"best_of={option}: all runs have the same value of this option.", hint)
    return key


def settings_apart(configurations: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each configuration, the options besides variant and seed in which any of them differ: ``{"optimizer.lr": 0.001}``."""
    keys = dict.fromkeys(key for one in configurations for key in one)
    told = [key for key in keys if sets_apart(key) and _differs(key, configurations)]
    # an option outside of groups that a run does not have came later: null
    return [{key: one.get(key) for key in told if key in one or "." not in key} for one in configurations]


def sets_apart(key: str) -> bool:
    """Whether an option may distinguish methods: it can change a result, and no column of its own shows it."""
    return key not in {"stage", "name", "seed", "variant.name"} and key.split(".")[0] not in _operational()


@cache
def _operational() -> set[str]:
    from aloll_cli.settings.root import Settings

    return {field.name for field in fields(Settings) if not field.metadata.get("identity", True)}


def _differs(key: str, configurations: Sequence[Mapping[str, Any]]) -> bool:
    """Whether configurations differ in an option; options of a group are compared only within the same choice of the group."""
    group, _, last = key.rpartition(".")
    values: dict[str, set[str]] = {}
    for one in configurations:
        choice = "" if last == "name" else str(one.get(f"{group}.name"))
        if choice == "" or key in one:
            values.setdefault(choice, set()).add(json.dumps(one.get(key)))
    return any(len(found) > 1 for found in values.values())


def typed(told: Mapping[str, Any]) -> str:
    """Options as on the command line: ``optimizer.lr=0.001 values=head``."""
    return " ".join(f"{option_of(key)}={shown(value)}" for key, value in told.items())


def shown(value: Any) -> str:
    """An option's value as on the command line."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def option_of(key: str) -> str:
    """A dotted key as on the command line: ``values.name`` is ``values``."""
    return key.removesuffix(".name")


def over_seeds(figures: Sequence[Any]) -> Any:
    """One value for several runs: the value itself for one run, else the mean of their means; None if a run has no value."""
    if any(figure is None for figure in figures):
        return None
    if len(figures) == 1:
        return figures[0]
    return fmean(figure["mean"] if isinstance(figure, dict) else figure for figure in figures)
