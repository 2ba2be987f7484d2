"""What validation says of policies trained with other options: collects their evaluations into a CSV file, and prints its table.

    python scripts/rates.py collect hha_small outputs/hha/policy/*
    python scripts/rates.py table hha_small

``scripts/measurements/rates/NAME.csv`` has a row per evaluation of each policy; ``collect`` adds to it, and replaces policies of
the same options. Nothing here has seen a test prompt: this is how options are chosen before methods are compared
(measurements.py).
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml
from measurements import markdown, rate

from aloll_cli.comparison.grouping import option_of
from aloll_cli.schema import flatten

FOLDER = Path(__file__).parent / "measurements" / "rates"
STRENGTHS = ("beta", "tau")  # options of a variant that say how far it goes from the reference
OTHERS = {"values.name": "head", "rounds": 1, "reduction": "sum"}  # other options, told where they are not these
ABOUT = ("variant", "options", "lr", "seed")  # columns that say which policy
FIGURES = {"reward": "score", "words": "length", "distinct": "distinct_1", "repeated": "repeated"}  # column: key of an evaluation


def collect(name: str, folders: Sequence[Path]) -> Path:
    """Add finished policies to the CSV file."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    file = FOLDER / f"{name}.csv"
    policies = _read(file) if file.exists() else {}
    for folder in folders:
        if (folder / "manifest.json").exists():
            about, rows = _rows(folder)
            policies[about] = rows
    with file.open("w", newline="") as stream:
        out = csv.writer(stream, lineterminator="\n")
        out.writerow([*ABOUT, "step", *FIGURES])
        out.writerows([*about, *row.values()] for about, rows in sorted(policies.items()) for row in rows)
    return file


def _read(file: Path) -> dict[tuple[str, ...], list[dict[str, str]]]:
    """The evaluations of each policy in the CSV file, by the values of ABOUT."""
    found: dict[tuple[str, ...], list[dict[str, str]]] = {}
    with file.open(newline="") as stream:
        for row in csv.DictReader(stream):
            found.setdefault(tuple(row.pop(key) for key in ABOUT), []).append(row)
    return found


def _rows(folder: Path) -> tuple[tuple[str, ...], list[dict[str, str]]]:
    """What a policy is, by ABOUT, and its evaluations."""
    settings = flatten(yaml.safe_load((folder / "config.yaml").read_text()))
    options = [f"{key}={settings[f'variant.{key}']:g}" for key in STRENGTHS if f"variant.{key}" in settings]
    options += [f"{option_of(key)}={settings[key]}" for key, usual in OTHERS.items() if settings[key] != usual]
    about = (settings["variant.name"], " ".join(options), f"{settings['optimizer.lr']:g}", str(settings["seed"]))
    evaluations = map(json.loads, (folder / "evaluations.jsonl").read_text().splitlines())
    return about, [
        {"step": str(record["update"]), **{column: f"{record[key]:.5g}" for column, key in FIGURES.items()}}
        for record in evaluations
    ]


def table(name: str) -> str:
    """The Markdown table of all policies, by their best validation reward; ``chosen`` is the best of its method."""
    found = _read(FOLDER / f"{name}.csv")
    best = {run: max(rows, key=lambda row: float(row["reward"])) for run, rows in found.items()}
    order = sorted(best, key=lambda run: -float(best[run]["reward"]))
    chosen = {run[0]: run for run in reversed(order)}
    lines = [
        ["method", "options", "lr", "best validation reward", "at step", "words", "distinct-1", "repeated responses", "chosen"]
    ]
    for run in order:
        variant, options, lr, _ = run
        row = best[run]
        figures = [f"{float(row['words']):.1f}", f"{float(row['distinct']):.2f}", f"{float(row['repeated']):.2f}"]
        is_chosen = "yes" if chosen[variant] == run else ""
        lines.append([f"`{variant}`", options, rate(lr), f"{float(row['reward']):.3f}", row["step"], *figures, is_chosen])
    return markdown(lines)


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["collect", "table"])
    parser.add_argument("name", help="of the CSV file in scripts/measurements/rates")
    parser.add_argument("folders", nargs="*", type=Path, help="folders of policies, for collect")
    given = parser.parse_args(arguments)
    sys.stdout.write(f"{collect(given.name, given.folders) if given.what == 'collect' else table(given.name)}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
