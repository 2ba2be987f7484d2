"""Comparison tables of methods: the columns, the notes under them, and the same as JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from aloll_cli.comparison.differences import AT_EQUAL_LENGTH, ENOUGH_SEEDS, ESTIMATES, Comparison, Row
from aloll_cli.comparison.grouping import Method, over_seeds, typed
from aloll_cli.comparison.judged import judgements_of
from aloll_cli.comparison.recipes import apart
from aloll_cli.comparison.runs import LIKELIHOOD, Run
from aloll_cli.metrics.intervals import FEW_PROMPTS, MANY_PROMPTS
from aloll_cli.reports.figures import KL, proxies, several_components
from aloll_cli.reports.judged import sentences
from aloll_cli.reports.text import number

INTERVALS = (
    "95% confidence intervals over prompts and training seeds, both random (crossed random effects, Satterthwaite's degrees of "
    "freedom)"
)
GIVEN = (
    "Shared by all runs and not included: the randomness of the data, the reference policy and its samples, and fitted rewards."
)
ONE_SEED = "one seed: the interval covers the prompts alone and excludes seed variance."
EQUAL_LENGTH = (
    "equal length: the gain that a regression on the difference in length to the reference predicts for responses of equal "
    "length, one regression per run; vs: the difference between these gains."
)
NOT_TOLD = "the lengths do not vary enough to tell, or words are counted with a library"

NOTES = {  # by heading of the column
    "distinct-1 ratio": "the policy's distinct-1 divided by the reference's, over equally many words.",
    "unique responses": "share of the responses that remain if duplicates count once.",
    "share of data used": (
        "share of the training responses with positive weight (with any weight other than 0 if clamp=false); "
        "for variants that compare responses, share of the prompts with responses of different rewards."
    ),
    "training seconds": "evaluations and checkpoints are excluded.",
}
COSTS = {
    "updates": "steps", "tokens": "tokens trained on", "seconds": "training seconds", "samples": "generated samples",
    "sampled_tokens": "generated tokens",
}  # fmt: skip

# heading, one value per method, and its format: "+" for differences, "," for counts. A value is a number, a mean with its
# interval, the lowest and highest mean of a seed, or None
Column = tuple[str, list[Any], str]


def columns(comparison: Comparison) -> list[Column]:
    """The columns of a comparison table, without empty ones."""
    rows, runs = comparison.rows, comparison.runs
    parts = dict.fromkeys(part for run in runs for part in run.metrics.get("by") or {})
    components = dict.fromkeys(part for run in runs for part in several_components(run.metrics))
    found: list[Column] = [
        ("reward", _estimated(rows, "reward"), ""),
        ("gain", _estimated(rows, "gain"), "+"),
        (comparison.heading, _estimated(rows, "difference"), "+"),
        (f"{comparison.heading}, p", [_p_value(row, "difference") for row in rows], ""),
        *((f"{part} gain", _measured(rows, partial(_of_component, part)), "+") for part in components),
        ("held-out reward gain", _estimated(rows, "held_out_gain"), "+"),
        (f"held-out {comparison.heading}", _estimated(rows, "held_out_difference"), "+"),
        (f"held-out {comparison.heading}, p", [_p_value(row, "held_out_difference") for row in rows], ""),
        ("gain at equal length", _estimated(rows, "length_controlled_gain"), "+"),
        (f"{comparison.heading}, equal length", _estimated(rows, "length_controlled_difference"), "+"),
        ("held-out gain at equal length", _estimated(rows, "length_controlled_held_out_gain"), "+"),
        (f"held-out {comparison.heading}, equal length", _estimated(rows, "length_controlled_held_out_difference"), "+"),
        ("gain by seed", [_spread(row) for row in rows], "+"),
        ("validation score", [row.method.validation if comparison.best_of else None for row in rows], ""),
        ("weighted log-lik. gain", _measured(rows, lambda run: (run.metrics.get(LIKELIHOOD) or {}).get("gain")), "+"),
        ("length (words)", _measured(rows, lambda run: run.metrics["policy"]["length"]["mean"]), ""),
        ("distinct-1 ratio", _measured(rows, distinct_share), ""),
        ("unique responses", _measured(rows, lambda run: run.metrics["policy"]["different"]), ""),
        ("KL per token", _measured(rows, lambda run: run.metrics["policy"].get("kl_per_token")), ""),
        ("share of data used", _measured(rows, lambda run: run.kept), ""),
        *((f"gain, {part}", _measured(rows, partial(_in_part, part)), "+") for part in parts),
    ]
    return [column for column in found if any(figure is not None for figure in column[1])]


def costs(comparison: Comparison) -> list[Column]:
    """Training costs as means over seeds, without those that are 0 for all methods."""
    found = {heading: [method.cost(of) for method in comparison.methods] for of, heading in COSTS.items()}
    return [(heading, figures, ",") for heading, figures in found.items() if any(figures)]


def _estimated(rows: Sequence[Row], name: str) -> list[Any]:
    return [row.estimates.get(name) for row in rows]


def _p_value(row: Row, name: str) -> float | None:
    """Holm's adjusted p-value of a difference; None where the seeds are too few for a verdict."""
    estimate = row.estimates.get(name) or {}
    p_value: float | None = estimate["p_holm"] if estimate.get("verdict") else None
    return p_value


def _measured(rows: Sequence[Row], of: Callable[[Run], Any]) -> list[Any]:
    return [over_seeds([of(run) for run in row.method.runs]) for row in rows]


def _spread(row: Row) -> tuple[float, float] | None:
    """The lowest and the highest gain of a seed; None for one seed."""
    by_seed = row.estimates["gain"]["by_seed"] if "gain" in row.estimates else []
    return (min(by_seed), max(by_seed)) if len(by_seed) > 1 else None


def _of_component(part: str, run: Run) -> Any:
    return several_components(run.metrics).get(part)


def _in_part(part: str, run: Run) -> Any:
    return ((run.metrics.get("by") or {}).get(part) or {}).get("gain")


def distinct_share(run: Run) -> float | None:
    """The policy's distinct-1 divided by the reference's, over equally many words; None if the reference's is 0."""
    policy, reference = (run.metrics[side]["distinct_1_matched"] for side in ("policy", "reference"))
    return policy / reference if reference else None


def caveats(comparison: Comparison, more: Sequence[Column] = ()) -> list[str]:
    """The notes under a comparison table: what columns mean, why a value is missing, which rewards are proxies.

    Args:
        comparison: the methods.
        more: columns of the table besides those of :func:`columns`.
    """
    runs = comparison.runs
    said = ["gain: mean reward minus the reference's; vs: mean reward minus another policy's. Both are paired by prompt."]
    said += _intervals(comparison)
    if len({id(row.against) for row in comparison.rows if row.against}) > 1:
        said.append(f"{comparison.heading}: there are several; each method is compared with the one that shares most options.")
    said += [_pairing(row, row.against) for row in comparison.rows if row.against and row.against.seeds != row.method.seeds]
    said += [_choice(method) for method in comparison.methods if method.rivals]
    said += _recipes(comparison.methods)
    said += sentences(judgements_of(runs))
    said += [f"gain: not available ({run.metrics['gain_why']})" for run in runs if run.metrics["gain"] is None]
    said += [line for run in runs for line in proxies(run.metrics)]
    headings = [heading for heading, *_ in [*columns(comparison), *more]]
    said += [EQUAL_LENGTH] if any(heading.endswith("equal length") for heading in headings) else []
    untold = [
        row.method.name for row in comparison.rows if "gain" in row.estimates and "length_controlled_gain" not in row.estimates
    ]
    said += [f"gain at equal length, {name}: not available ({NOT_TOLD})" for name in untold]
    said += [f"{heading}: {note}" for heading, note in NOTES.items() if heading in headings]
    said += [KL for run in runs if run.metrics["policy"].get("kl_per_token") is not None]
    return list(dict.fromkeys(said))


def _recipes(methods: Sequence[Method]) -> list[str]:
    """Which methods have the same options, and were trained by other code or from other files."""
    alike: dict[tuple[str, str], list[Method]] = {}
    for method in methods:
        if "recipe" in method.told:
            rest = {key: value for key, value in method.told.items() if key != "recipe"}
            alike.setdefault((method.variant, typed(rest)), []).append(method)
    return [
        f"{other.name}: the same options as {first.name}, but trained with other code, files or data "
        f"({apart(first.runs[0].method, other.runs[0].method)})."
        for first, *others in alike.values()
        for other in others
    ]


def _intervals(comparison: Comparison) -> list[str]:
    """What the intervals cover, and what the differences to a baseline show."""
    rows = comparison.rows
    by_seed = any(len(method.runs) > 1 for method in comparison.methods)
    said = [f"{INTERVALS}. {GIVEN}"] if by_seed else ["95% confidence intervals over prompts."]
    said += ["gain by seed: lowest to highest gain of a seed."] if by_seed else []
    alone = [row.method.name for row in rows if len(row.method.runs) == 1]
    said += [f"{', '.join(alone)}: {ONE_SEED}"] if alone else []
    titles = {
        "difference": comparison.heading,
        "held_out_difference": f"held-out {comparison.heading}",
        "length_controlled_difference": f"{comparison.heading}, equal length",
        "length_controlled_held_out_difference": f"held-out {comparison.heading}, equal length",
    }
    for name, title in titles.items():
        found = {row.method.name: row.estimates[name] for row in rows if name in row.estimates}
        judged = {method: estimate for method, estimate in found.items() if estimate.get("verdict")}
        said += [
            f"{method} {title}: {estimate['verdict']} (p = {estimate['p_holm']:.2g}, Holm's correction over {estimate['family']} "
            f"comparison{'s' * (estimate['family'] > 1)})."
            for method, estimate in judged.items()
        ]
        few = [method for method in found if method not in judged]
        said += [f"{', '.join(few)} {title}: fewer than {ENOUGH_SEEDS} seeds, so no verdict."] if few else []
    prompts = min((estimate["prompts"] for row in rows for estimate in row.estimates.values()), default=MANY_PROMPTS)
    if prompts < FEW_PROMPTS:
        said.append(f"{prompts} prompts are too few for an interval or a verdict; {FEW_PROMPTS} are needed.")
    elif prompts < MANY_PROMPTS:
        said.append(f"warning: {prompts} prompts are few: intervals are reliable from about {MANY_PROMPTS} on.")
    return said


def _pairing(row: Row, other: Method) -> str:
    """How a method is compared with a baseline that has other seeds."""
    mine, its = (", ".join(map(str, method.seeds)) for method in (row.method, other))
    return f"{row.method.name} vs {other.name}: other seeds ({mine}; {its}), so the means over all seeds of each are compared."


def _choice(method: Method) -> str:
    """The option values that were selected, with the validation scores of all candidates."""
    (first, best), *others = [(one, number(one.validation or 0.0)) for one in (method, *method.rivals)]
    over = f" over seed {first.judged_over}" if first.judged_over != first.seed else ""
    seeds = {one: f" over seed {one.judged_over}" if one.judged_over != first.judged_over else "" for one in method.rivals}
    scores = "; ".join(f"{rival.setting}: {score}{seeds[rival]}" for rival, score in others)
    return f"{first.variant}: {first.setting} has the best validation {first.runs[0].score}{over}, {best} ({scores})."


def as_plain(comparison: Comparison) -> dict[str, Any]:
    """The comparison as plain values for JSON."""
    about = ("task", "split", "reward", "test_reward", "n")
    first, *others = [run.metrics for run in comparison.runs]
    return {
        **{key: first[key] if all(other[key] == first[key] for other in others) else None for key in about},
        "intervals": INTERVALS,
        "best_of": list(comparison.best_of) or None,
        "methods": [_method_as_plain(row) for row in comparison.rows],
        "judgements": judgements_of(comparison.runs),
    }


def _method_as_plain(row: Row) -> dict[str, Any]:
    method, against = row.method, row.against
    measured = {
        "words": lambda run: run.metrics["policy"]["length"]["mean"],
        "distinct_1_share": distinct_share,
        "different": lambda run: run.metrics["policy"]["different"],
        "kl_per_token": lambda run: run.metrics["policy"].get("kl_per_token"),
        "kept": lambda run: run.kept,
    }
    return {
        **_named(method),
        "runs": [run.name for run in method.runs],
        "against": _named(against) if against else None,
        **{name: row.estimates.get(name) for names in (*ESTIMATES.values(), *AT_EQUAL_LENGTH.values()) for name in names},
        **{name: _measured([row], of)[0] for name, of in measured.items()},
        "cost": {of: method.cost(of) for of in COSTS},
        "rivals": [_named(rival) for rival in method.rivals],
    }


def _named(method: Method) -> dict[str, Any]:
    return {"variant": method.variant, "options": method.told, "seeds": method.seeds, "validation": method.validation}
