"""The measurements behind docs/results.md: collects evaluated runs into a CSV file, and prints its tables from that file.

    python scripts/measurements.py collect hha_small outputs/hha/metrics/*
    python scripts/measurements.py collect hha_small outputs/hha/metrics/dro-* --label 'dro values=joint'
    python scripts/measurements.py table hha_small --against seq

``scripts/measurements/NAME.csv`` has a row per run and reward: variant, learning rate, seed, the run's figures, then the reward
of its response to each test prompt, and one row per run with the number of words of each response. The reference has rows of its
own. ``collect`` adds to what is there. ``table`` needs nothing else, so every interval in the docs can be computed again; a test
compares them with docs/results.md.
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
from aloll_cli.reports.comparison_columns import distinct_share

FOLDER = Path(__file__).parent / "measurements"
BASELINES = ("nll", "seq values=head", "seq", "seq values=ridge")  # the others are compared with the first that was measured
FIGURES = {"words": "length", "unique": "different", "eos": "ended", "kl": "kl_per_token"}  # column: key in metrics.json
DISTINCT = "distinct"  # the policy's distinct-1 over the reference's, over equally many words
COSTS = ("samples", "seconds")  # of training
ABOUT = ("variant", "lr", "seed")  # columns that say which run
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
        SystemExit: the runs are not comparable, also with those in the file; another run of the same method, rate and seed is
            there; or a policy was not trained here.
    """
    runs = [load_run(folder) for folder in folders]
    if not runs or any(not runs[0].is_comparable(run) for run in runs):
        raise SystemExit("the runs have different test prompts, rewards or splits, or there are none")
    prompts = runs[0].prompts
    heads = [*ABOUT, "run", "role", "validation", *FIGURES, DISTINCT, *COSTS, *(f"p{i}" for i in range(len(prompts)))]
    FOLDER.mkdir(exist_ok=True)
    file = FOLDER / f"{name}.csv"
    there = _read(file, heads) if file.exists() else {}
    for run in runs:
        reference = _rows({"variant": REFERENCE}, run, prompts, "reference", heads)
        if there.setdefault((REFERENCE, "", ""), reference) != reference:
            raise SystemExit(f"{run.folder}: another reference, or other test prompts, than in {file}")
        if run.seed is None or run.validation is None:
            raise SystemExit(f"{run.folder}: the policy was not trained here: it has no seed or no validation score")
        about = dict(zip(ABOUT, (label or run.variant, f"{run.options['optimizer.lr']:g}", str(run.seed)), strict=True))
        costs = {of: "" if (cost := run.cost(of)) is None else f"{cost:.0f}" for of in COSTS}
        share = distinct_share(run)
        more = {"run": run.fingerprint, "validation": f"{run.validation:.5f}", DISTINCT: "" if share is None else f"{share:.5g}"}
        rows = _rows(about | more | costs, run, prompts, "policy", heads)
        same = there.setdefault(tuple(about.values()), rows)
        if same[0]["run"] != run.fingerprint:
            raise SystemExit(f"{run.fingerprint} and {same[0]['run']} are both {' '.join(about.values())}: give one a --label")
    order = sorted(there, key=lambda key: (key[0] != REFERENCE, key[0], float(key[1] or 0), int(key[2] or 0)))
    written = file.with_suffix(".new")
    with written.open("w", newline="") as stream:
        out = csv.DictWriter(stream, heads, lineterminator="\n")
        out.writeheader()
        out.writerows(row for key in order for row in there[key])
    written.replace(file)
    return file


def _read(file: Path, heads: Sequence[str] | None = None) -> dict[tuple[str, ...], list[dict[str, str]]]:
    """The rows of each run, by the values of ABOUT. Raises SystemExit if the columns are not those that are expected."""
    found: dict[tuple[str, ...], list[dict[str, str]]] = {}
    with file.open(newline="") as stream:
        rows = csv.DictReader(stream)
        if heads is not None and rows.fieldnames != heads:
            raise SystemExit(f"{file} has other columns, or another number of prompts: collect all runs into a new file")
        for row in rows:
            found.setdefault(tuple(row[column] for column in ABOUT), []).append(row)
    return found


def _rows(about: Mapping[str, str], run: Run, prompts: Sequence[str], side: str, heads: Sequence[str]) -> list[dict[str, str]]:
    """A row per role of the rewards, and one of the words by prompt."""
    metrics = run.metrics[side]
    figures = {column: f"{_mean(metrics[key]):.5g}" for column, key in FIGURES.items() if metrics.get(key) is not None}
    of_prompts = {role: run.by_prompt(prompts, role, side) for role in ROLES} | {WORDS: run.words_by_prompt(prompts, side)}
    return [
        dict.fromkeys(heads, "")
        | {**about, "role": role, **figures, **{f"p{i}": f"{value:.5f}" for i, value in enumerate(values)}}
        for role, values in of_prompts.items()
        if len(values)
    ]


def _mean(figure: Any) -> float:
    return float(figure["mean"] if isinstance(figure, dict) else figure)


def measured(name: str) -> list[Measured]:
    """The runs in a CSV file, the reference first."""
    found = []
    for key, rows in _read(FOLDER / f"{name}.csv").items():
        figures = {column: float(rows[0][column]) for column in ("validation", *FIGURES, DISTINCT, *COSTS) if rows[0].get(column)}
        rewards = {row["role"]: np.array([float(value) for head, value in row.items() if head[1:].isdigit()]) for row in rows}
        found.append(Measured(*key, figures, rewards))
    return found


def table(name: str, baseline: str | None = None) -> str:
    """The Markdown table of all variants, by mean gain: intervals over prompts and seeds, p-values against the baseline by Holm.

    Of a variant with several learning rates, the one with the most runs is shown. ``baseline`` is the variant that the others are
    compared with; None: the first of BASELINES that was measured.
    """
    reference, methods, baseline = _compared(name, baseline)
    gains = {variant: _gain(found, reference, "reward") for variant, found in methods.items()}
    against, p_values = _against(methods, baseline, _rewards)
    held_out = "test_reward" in reference.rewards
    told = {  # heading: column and digits
        "words": (WORDS, 1), "distinct-1, share": (DISTINCT, 2), "unique responses": ("unique", 2), "KL per token": ("kl", 2),
    }  # fmt: skip
    there = {column for found in methods.values() for run in found for column in run.figures}
    told = {heading: about for heading, about in told.items() if about[0] in there}
    heads = [
        "variant", "lr", "seeds", "gain [95%]", "by seed", f"difference to {baseline} [95%]", "p (Holm)",
        *(["held-out gain [95%]"] if held_out else []), *told,
    ]  # fmt: skip
    lines = [heads]
    for variant in _by_gain(gains):
        found = methods[variant]
        lines.append([
            f"`{variant}`", rate(found[0].lr), str(len(found)), _interval(gains[variant]),
            " ".join(f"{_gain([run], reference, 'reward').mean:+.3f}" for run in found),
            _interval(against.get(variant)), _p(p_values.get(variant)),
            *([_interval(_gain(found, reference, "test_reward"))] if held_out else []),
            *(_figure(found, column, digits) for column, digits in told.values()),
        ])  # fmt: skip
    return markdown(lines)


def held_out_table(name: str, baseline: str | None = None) -> str:
    """The Markdown table under the held-out reward at equal length, by mean gain, with what training cost (means over seeds)."""
    reference, methods, baseline = _compared(name, baseline)

    def at_equal_length(run: Measured) -> FloatArray:
        gains, longer = (run.rewards[role] - reference.rewards[role] for role in ("test_reward", WORDS))
        values = length_control.at_equal_length(gains, longer)
        if values is None:
            raise SystemExit(f"{run.variant}, seed {run.seed}: the lengths of its responses do not tell its gain at equal length")
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
        lines.append([
            f"`{variant}`", _interval(gains[variant]), " ".join(f"{at_equal_length(run).mean():+.3f}" for run in found),
            _interval(against.get(variant)), _p(p_values.get(variant)),
            *(_figure(found, cost) for cost in COSTS),
        ])  # fmt: skip
    return markdown(lines)


def has_held_out(name: str) -> bool:
    """Whether the file has what :func:`held_out_table` needs."""
    return {"test_reward", WORDS} <= measured(name)[0].rewards.keys()


def _compared(name: str, baseline: str | None) -> tuple[Measured, dict[str, list[Measured]], str | None]:
    """The reference, the runs of each variant at one learning rate, and the variant that the others are compared with.

    Raises SystemExit where the one that is named was not measured.
    """
    reference, *runs = measured(name)
    methods = {
        one: _of_one_rate([run for run in runs if run.variant == one]) for one in dict.fromkeys(run.variant for run in runs)
    }
    if baseline is not None and baseline not in methods:
        raise SystemExit(f"--against {baseline}: not measured; there are {', '.join(methods)}")
    return reference, methods, baseline or next((one for one in BASELINES if one in methods), None)


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


def _of_one_rate(runs: list[Measured]) -> list[Measured]:
    rates = [run.lr for run in runs]
    chosen = max(dict.fromkeys(rates), key=rates.count)
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


def _figure(runs: Sequence[Measured], column: str, digits: int = 0) -> str:
    """The mean over seeds; – where a run has no such figure."""
    figures = [run.figures.get(column) for run in runs]
    return "–" if None in figures else f"{fmean(figure for figure in figures if figure is not None):,.{digits}f}"


def _p(value: float | None) -> str:
    return "–" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["collect", "table"])
    parser.add_argument("name", help="of the CSV file in scripts/measurements")
    parser.add_argument("folders", nargs="*", type=Path, help="metrics folders of evaluated runs, for collect")
    parser.add_argument("--label", help="what the table calls the runs, such as 'dro values=joint'; for collect")
    parser.add_argument("--against", help="the method that the others are compared with, such as seq; for table")
    given = parser.parse_args(arguments)
    if given.what == "collect":
        sys.stdout.write(f"{collect(given.name, given.folders, given.label)}\n")
        return
    sys.stdout.write(f"{table(given.name, given.against)}\n")
    if has_held_out(given.name):
        sys.stdout.write(f"\n{held_out_table(given.name, given.against)}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
