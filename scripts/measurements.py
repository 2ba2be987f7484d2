"""The measurements behind docs/results.md: collects evaluated runs into a CSV file, and prints its tables from that file.

    python scripts/measurements.py collect hha_small outputs/hha/metrics/*
    python scripts/measurements.py collect hha_small outputs/hha/metrics/dro-* --label 'dro values=joint'
    python scripts/measurements.py table hha_small

``scripts/measurements/NAME.csv`` has a row per run and reward: variant, learning rate, seed, the run's figures, then the reward
of its response to each test prompt; and one with the words of these responses. The reference has rows of its own. ``collect``
adds to what is there, and replaces the rows of the same method, rate and seed. ``table`` needs nothing else, so every interval in
the docs can be computed again; a test compares them with docs/results.md.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from aloll_cli.arrays import FloatArray
from aloll_cli.comparison.differences import ENOUGH_SEEDS
from aloll_cli.comparison.runs import ROLES, Run, load_run
from aloll_cli.metrics import length_control
from aloll_cli.metrics.crossed import Estimate, difference, holm

FOLDER = Path(__file__).parent / "measurements"
BASELINES = ("nll", "seq values=head", "seq")  # the first one that was measured is what the others are compared with
FIGURES = {  # by column: their keys in metrics.json
    "words": "length", "unique": "different", "eos": "ended", "kl": "kl_per_token", "distinct": "distinct_1_matched",
}  # fmt: skip
COSTS = ("samples", "seconds")  # of training; files of earlier measurements have neither them nor words by prompt
REFERENCE = "reference"
WORDS = "words"


@dataclass(frozen=True)
class Measured:
    """One run of a variant, or the reference.

    Attributes:
        variant, lr, seed: which run; the variant with its values where these differ; lr and seed are "" for the
            reference.
        figures: its figures by the names in FIGURES, and ``validation``, its score on validation prompts.
        rewards: (G,) reward of the response to each prompt, by role (``reward``, ``test_reward``), and its ``words``.
    """

    variant: str
    lr: str
    seed: str
    figures: dict[str, float]
    rewards: dict[str, FloatArray]


def collect(name: str, folders: Sequence[Path], label: str | None = None) -> Path:
    """Add evaluated runs to a CSV file.

    Args:
        name: of the file.
        folders: of the runs' metrics.
        label: what the table calls them; None: their variants.

    Raises:
        SystemExit: the runs are not comparable, also with those in the file, or two are the same method, rate and seed.
    """
    runs = [load_run(folder) for folder in folders]
    if not runs or any(not runs[0].is_comparable(run) for run in runs):
        raise SystemExit("the runs have different test prompts, rewards or splits, or there are none")
    prompts = runs[0].prompts
    heads = ["variant", "lr", "seed", "role", "validation", *FIGURES, *COSTS, *(f"p{i}" for i in range(len(prompts)))]
    reference = _rows(dict.fromkeys(heads[:3], "") | {"variant": REFERENCE}, runs[0], prompts, "reference")
    added = {}
    for run in runs:
        about = {"variant": label or run.variant, "lr": f"{run.options['optimizer.lr']:g}", "seed": str(run.seed)}
        key = tuple(about.values())
        if key in added:
            raise SystemExit(f"two runs are {' '.join(key)}: collect them apart, each with a --label")
        costs = {cost: f"{run.cost(cost) or 0:.0f}" for cost in COSTS}
        added[key] = _rows(about | {"validation": f"{run.validation:.5f}"} | costs, run, prompts, "policy")
    FOLDER.mkdir(exist_ok=True)
    file = FOLDER / f"{name}.csv"
    there = _read(file) if file.exists() else [dict.fromkeys(heads, "") | row for row in reference]
    if there[: len(reference)] != [dict.fromkeys(heads, "") | row for row in reference]:
        raise SystemExit(f"{file} has another reference, or other test prompts")
    kept = [row for row in there[len(reference) :] if (row["variant"], row["lr"], row["seed"]) not in added]
    rows = sorted(
        [*kept, *(row for one in added.values() for row in one)], key=lambda row: (row["variant"], row["lr"], int(row["seed"]))
    )
    with file.open("w", newline="") as stream:
        out = csv.DictWriter(stream, heads, restval="", lineterminator="\n")
        out.writeheader()
        out.writerows([*there[: len(reference)], *rows])
    return file


def _read(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


def _rows(about: Mapping[str, str], run: Run, prompts: Sequence[str], side: str) -> list[dict[str, str]]:
    """A row per role of the rewards, and one of the words by prompt."""
    metrics = run.metrics[side]
    figures = {column: f"{_mean(metrics[key]):.5g}" for column, key in FIGURES.items() if metrics.get(key) is not None}
    of_prompts = {role: run.by_prompt(prompts, role, side) for role in ROLES} | {WORDS: run.words_by_prompt(prompts, side)}
    return [
        {**about, "role": role, **figures, **{f"p{i}": f"{value:.5f}" for i, value in enumerate(values)}}
        for role, values in of_prompts.items()
        if len(values)
    ]


def _mean(figure: Any) -> float:
    return float(figure["mean"] if isinstance(figure, dict) else figure)


def measured(name: str) -> list[Measured]:
    """The runs in a CSV file, the reference first."""
    found: dict[tuple[str, str, str], Measured] = {}
    for row in _read(FOLDER / f"{name}.csv"):
        key = (row["variant"], row["lr"], row["seed"])
        figures = {column: float(row[column]) for column in ("validation", *FIGURES, *COSTS) if row.get(column)}
        run = found.setdefault(key, Measured(*key, figures, {}))
        run.rewards[row["role"]] = np.array([float(value) for column, value in row.items() if column[1:].isdigit()])
    return list(found.values())


def table(name: str, lr: Mapping[str, str] | None = None) -> str:
    """The Markdown table of all variants, by mean gain: intervals over prompts and seeds, p-values against the baseline by Holm.

    Args:
        name: of the CSV file.
        lr: the learning rate of some variants; of others, the one with the most runs.
    """
    reference, methods, baseline = _compared(name, lr)
    gains = {variant: _gain(found, reference, "reward") for variant, found in methods.items()}
    against, p_values = _against(methods, baseline, _rewards)
    has_held_out = "test_reward" in reference.rewards
    heads = [
        "variant", "lr", "seeds", "gain [95%]", "by seed", f"difference to {baseline} [95%]", "p (Holm)",
        *(["held-out gain [95%]"] if has_held_out else []), "words", "distinct-1, share", "unique responses", "KL per token",
    ]  # fmt: skip
    lines = [heads]
    for variant in _by_gain(gains):
        found = methods[variant]
        figure = {column: fmean(run.figures[column] for run in found) for column in FIGURES}
        share = fmean(run.figures["distinct"] for run in found) / reference.figures["distinct"]
        lines.append([
            f"`{variant}`", rate(found[0].lr), str(len(found)), _interval(gains[variant]),
            " ".join(f"{_gain([run], reference, 'reward').mean:+.3f}" for run in found),
            _interval(against.get(variant)), _p(p_values.get(variant)),
            *([_interval(_gain(found, reference, "test_reward"))] if has_held_out else []),
            f"{figure['words']:.1f}", f"{share:.2f}", f"{figure['unique']:.2f}", f"{figure['kl']:.2f}",
        ])  # fmt: skip
    return markdown(lines)


def held_out_table(name: str) -> str:
    """The Markdown table under the held-out reward at equal length, by mean gain, with what training cost (means over seeds)."""
    reference, methods, baseline = _compared(name)

    def at_equal_length(run: Measured) -> FloatArray:
        gains, longer = (run.rewards[role] - reference.rewards[role] for role in ("test_reward", WORDS))
        values = length_control.at_equal_length(gains, longer)
        assert values is not None, "all responses are longer by the same number of words"
        return values

    zero = np.zeros_like(reference.rewards[WORDS])
    gains = {
        variant: difference({run.seed: at_equal_length(run) for run in found}, dict.fromkeys((run.seed for run in found), zero))
        for variant, found in methods.items()
    }
    against, p_values = _against(methods, baseline, at_equal_length)
    lines = [[
        "variant", "held-out gain at equal length [95%]", "by seed", f"difference to {baseline} [95%]", "p (Holm)",
        "generated responses", "seconds",
    ]]  # fmt: skip
    for variant in _by_gain(gains):
        found = methods[variant]
        samples, seconds = (fmean(run.figures[cost] for run in found) for cost in COSTS)
        lines.append([
            f"`{variant}`", _interval(gains[variant]), " ".join(f"{at_equal_length(run).mean():+.3f}" for run in found),
            _interval(against.get(variant)), _p(p_values.get(variant)), f"{samples:,.0f}", f"{seconds:.0f}",
        ])  # fmt: skip
    return markdown(lines)


def _compared(name: str, lr: Mapping[str, str] | None = None) -> tuple[Measured, dict[str, list[Measured]], str | None]:
    """The reference, the runs of each variant at one learning rate, and the variant that the others are compared with."""
    reference, *runs = measured(name)
    variants = dict.fromkeys(run.variant for run in runs)
    methods = {one: _chosen([run for run in runs if run.variant == one], (lr or {}).get(one)) for one in variants}
    return reference, methods, next((one for one in BASELINES if one in methods), None)


def _against(
    methods: Mapping[str, Sequence[Measured]], baseline: str | None, values: Callable[[Measured], FloatArray]
) -> tuple[dict[str, Estimate], dict[str, float]]:
    """Differences to the baseline of (G,) values of each run, and p-values by Holm of the variants with enough seeds."""
    if baseline is None:
        return {}, {}
    of = {variant: {run.seed: values(run) for run in found} for variant, found in methods.items()}
    against = {variant: difference(mine, of[baseline]) for variant, mine in of.items() if variant != baseline}
    tested = [variant for variant in against if len(methods[variant]) >= ENOUGH_SEEDS]
    return against, dict(zip(tested, holm([against[variant].p_value for variant in tested]), strict=True))


def _by_gain(gains: Mapping[str, Estimate]) -> list[str]:
    return sorted(gains, key=lambda variant: -gains[variant].mean)


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table of rows of cells, the headings first."""
    heads, *rows = lines
    return "\n".join(f"| {' | '.join(line)} |" for line in (heads, ["---"] * len(heads), *rows))


def _chosen(runs: list[Measured], lr: str | None) -> list[Measured]:
    rates = [run.lr for run in runs]
    chosen = lr or max(dict.fromkeys(rates), key=rates.count)
    return [run for run in runs if run.lr == chosen]


def _gain(runs: Sequence[Measured], reference: Measured, role: str) -> Estimate:
    mine = {run.seed: run.rewards[role] for run in runs}
    return difference(mine, dict.fromkeys(mine, reference.rewards[role]))


def _rewards(run: Measured) -> FloatArray:
    return run.rewards["reward"]


def _interval(estimate: Estimate | None) -> str:
    if estimate is None:
        return "–"
    lo, hi = estimate.ci95
    return f"{estimate.mean:+.3f} [{lo:.3f}, {hi:.3f}]" + ("" if estimate.includes_seeds else " (prompts only)")


def rate(lr: str) -> str:
    """A learning rate as the tables show it: 1e-3."""
    return f"{float(lr):.0e}".replace("e-0", "e-")


def _p(value: float | None) -> str:
    return "–" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["collect", "table"])
    parser.add_argument("name", help="of the CSV file in scripts/measurements")
    parser.add_argument("folders", nargs="*", type=Path, help="metrics folders of evaluated runs, for collect")
    parser.add_argument("--label", help="what the table calls the runs, such as 'dro values=joint'; for collect")
    given = parser.parse_args(arguments)
    if given.what == "collect":
        sys.stdout.write(f"{collect(given.name, given.folders, given.label)}\n")
        return
    sys.stdout.write(f"{table(given.name)}\n")
    if WORDS in measured(given.name)[0].rewards:
        sys.stdout.write(f"\n{held_out_table(given.name)}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
