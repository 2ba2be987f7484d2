"""The measurements behind docs/results.md: collects evaluated runs into a CSV file, and prints its tables from that file.

    python scripts/measurements.py collect hha_small outputs/hha/metrics/*
    python scripts/measurements.py table hha_small

``scripts/measurements/NAME.csv`` has a row per run and reward: variant, learning rate, seed, the run's figures, then the reward
of its response to each test prompt. The reference has rows of its own. ``table`` needs nothing else, so every interval in the
docs can be computed again; a test compares them with docs/results.md.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from aloll_cli.arrays import FloatArray
from aloll_cli.comparison.differences import ENOUGH_SEEDS
from aloll_cli.comparison.runs import ROLES, Run, load_run
from aloll_cli.metrics.crossed import Estimate, difference, holm

FOLDER = Path(__file__).parent / "measurements"
BASELINES = ("nll", "seq values=head")  # the first one that was measured is what the others are compared with
FIGURES = {  # by column: their keys in metrics.json
    "words": "length", "unique": "different", "eos": "ended", "kl": "kl_per_token", "distinct": "distinct_1_matched",
}  # fmt: skip
REFERENCE = "reference"


@dataclass(frozen=True)
class Measured:
    """One run of a variant, or the reference.

    Attributes:
        variant, lr, seed: which run; the variant with its values where these differ; lr and seed are "" for the
            reference.
        figures: its figures by the names in FIGURES, and ``validation``, its score on validation prompts.
        rewards: (G,) reward of the response to each prompt, by role (``reward``, ``test_reward``).
    """

    variant: str
    lr: str
    seed: str
    figures: dict[str, float]
    rewards: dict[str, FloatArray]


def collect(name: str, folders: Sequence[Path]) -> Path:
    """Write the CSV file of evaluated runs. Raises SystemExit if they are not comparable."""
    runs = [load_run(folder) for folder in folders]
    if not runs or any(not runs[0].is_comparable(run) for run in runs):
        raise SystemExit("the runs have different test prompts, rewards or splits, or there are none")
    prompts = runs[0].prompts
    FOLDER.mkdir(exist_ok=True)
    file = FOLDER / f"{name}.csv"
    several = len({run.options.get("values.name") for run in runs if run.variant != BASELINES[0]}) > 1
    order = sorted(runs, key=lambda run: (_label(run, several), run.options["optimizer.lr"], run.seed))
    with file.open("w", newline="") as stream:
        rows = csv.writer(stream, lineterminator="\n")
        rows.writerow(["variant", "lr", "seed", "role", "validation", *FIGURES, *(f"p{i}" for i in range(len(prompts)))])
        rows.writerows(_rows([REFERENCE, "", "", ""], order[0], prompts, "reference"))
        for run in order:
            about = [_label(run, several), f"{run.options['optimizer.lr']:g}", run.seed, f"{run.validation:.5f}"]
            rows.writerows(_rows(about, run, prompts, "policy"))
    return file


def _label(run: Run, several: bool) -> str:
    """The variant, with its values if runs with others are in the file, too."""
    return f"{run.variant} values={run.options['values.name']}" if several else run.variant


def _rows(about: Sequence[Any], run: Run, prompts: Sequence[str], side: str) -> list[list[Any]]:
    """A row per role of the rewards."""
    *which, validation = about
    metrics = run.metrics[side]
    figures = [f"{_mean(metrics[key]):.5g}" for key in FIGURES.values()]
    rewards = {role: run.by_prompt(prompts, role, side) for role in ROLES}
    return [
        [*which, role, validation, *figures, *(f"{value:.5f}" for value in values)]
        for role, values in rewards.items()
        if len(values)
    ]


def _mean(figure: Any) -> float:
    return float(figure["mean"] if isinstance(figure, dict) else figure)


def measured(name: str) -> list[Measured]:
    """The runs in a CSV file, the reference first."""
    found: dict[tuple[str, str, str], Measured] = {}
    with (FOLDER / f"{name}.csv").open(newline="") as stream:
        for row in csv.DictReader(stream):
            key = (row["variant"], row["lr"], row["seed"])
            figures = {column: float(row[column]) for column in ("validation", *FIGURES) if row[column]}
            run = found.setdefault(key, Measured(*key, figures, {}))
            run.rewards[row["role"]] = np.array([float(value) for column, value in row.items() if column[1:].isdigit()])
    return list(found.values())


def table(name: str, lr: Mapping[str, str] | None = None) -> str:
    """The Markdown table of all variants, by mean gain: intervals over prompts and seeds, p-values against the baseline by Holm.

    Args:
        name: of the CSV file.
        lr: the learning rate of some variants; of others, the one with the most runs.
    """
    reference, *runs = measured(name)
    methods = {variant: _chosen([run for run in runs if run.variant == variant], (lr or {}).get(variant)) for variant in
               dict.fromkeys(run.variant for run in runs)}  # fmt: skip
    gains = {variant: _gain(found, reference, "reward") for variant, found in methods.items()}
    baseline = next((name for name in BASELINES if name in methods), None)
    others = [variant for variant in methods if variant != baseline]
    against = {variant: _difference(methods[variant], methods[baseline]) for variant in others} if baseline else {}
    tested = [variant for variant in against if len(methods[variant]) >= ENOUGH_SEEDS]
    p_values = dict(zip(tested, holm([against[variant].p_value for variant in tested]), strict=True))
    has_held_out = "test_reward" in reference.rewards
    heads = [
        "variant", "lr", "seeds", "gain [95%]", "by seed", f"difference to {baseline} [95%]", "p (Holm)",
        *(["held-out gain [95%]"] if has_held_out else []), "words", "distinct-1, share", "unique responses", "KL per token",
    ]  # fmt: skip
    lines = [heads, ["---"] * len(heads)]
    for variant in sorted(methods, key=lambda variant: -gains[variant].mean):
        found = methods[variant]
        figure = {column: fmean(run.figures[column] for run in found) for column in FIGURES}
        share = fmean(run.figures["distinct"] for run in found) / reference.figures["distinct"]
        lines.append([
            f"`{variant}`", rate(found[0].lr), str(len(found)), _interval(gains[variant]),
            " ".join(f"{_gain([run], reference, 'reward').mean:+.3f}" for run in found),
            _interval(against[variant]) if variant in against else "–",
            _p(p_values[variant]) if variant in p_values else "–",
            *([_interval(_gain(found, reference, "test_reward"))] if has_held_out else []),
            f"{figure['words']:.1f}", f"{share:.2f}", f"{figure['unique']:.2f}", f"{figure['kl']:.2f}",
        ])  # fmt: skip
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _chosen(runs: list[Measured], lr: str | None) -> list[Measured]:
    rates = [run.lr for run in runs]
    chosen = lr or max(dict.fromkeys(rates), key=rates.count)
    return [run for run in runs if run.lr == chosen]


def _gain(runs: Sequence[Measured], reference: Measured, role: str) -> Estimate:
    mine = {run.seed: run.rewards[role] for run in runs}
    return difference(mine, dict.fromkeys(mine, reference.rewards[role]))


def _difference(runs: Sequence[Measured], others: Sequence[Measured]) -> Estimate:
    return difference({run.seed: run.rewards["reward"] for run in runs}, {run.seed: run.rewards["reward"] for run in others})


def _interval(estimate: Estimate) -> str:
    lo, hi = estimate.ci95
    return f"{estimate.mean:+.3f} [{lo:.3f}, {hi:.3f}]" + ("" if estimate.includes_seeds else " (prompts only)")


def rate(lr: str) -> str:
    """A learning rate as the tables show it: 1e-3."""
    return f"{float(lr):.0e}".replace("e-0", "e-")


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["collect", "table"])
    parser.add_argument("name", help="of the CSV file in scripts/measurements")
    parser.add_argument("folders", nargs="*", type=Path, help="metrics folders of evaluated runs, for collect")
    given = parser.parse_args(arguments)
    if given.what == "collect":
        sys.stdout.write(f"{collect(given.name, given.folders)}\n")
    else:
        sys.stdout.write(f"{table(given.name)}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
