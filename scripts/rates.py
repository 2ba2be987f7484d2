"""What validation says of policies trained with other options: collects their evaluations into a CSV file, and prints its table.

    python scripts/rates.py collect hha_small outputs/hha/policy/*
    python scripts/rates.py table hha_small

``scripts/measurements/rates/NAME.csv`` has a row per evaluation of each policy. Nothing here has seen a test prompt: this is how
options are chosen before methods are compared (measurements.py).
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from measurements import rate

FOLDER = Path(__file__).parent / "measurements" / "rates"
STRENGTHS = ("beta", "tau")  # options of a variant that say how far it goes from the reference
FIGURES = {"reward": "score", "words": "length", "distinct": "distinct_1", "repeated": "repeated"}  # column: key of an evaluation


def collect(name: str, folders: Sequence[Path]) -> Path:
    """Write the CSV file of finished policies."""
    rows = sorted(row for folder in folders if (folder / "manifest.json").exists() for row in _rows(folder))
    FOLDER.mkdir(parents=True, exist_ok=True)
    file = FOLDER / f"{name}.csv"
    with file.open("w", newline="") as stream:
        out = csv.writer(stream, lineterminator="\n")
        out.writerow(["variant", "options", "lr", "seed", "step", *FIGURES])
        out.writerows([*about, step, *(f"{figure:.5g}" for figure in figures)] for *about, step, figures in rows)
    return file


def _rows(folder: Path) -> list[list[Any]]:
    settings = yaml.safe_load((folder / "config.yaml").read_text())
    variant, values = settings["variant"], settings["values"]["name"]
    options = [f"{key}={variant[key]:g}" for key in STRENGTHS if key in variant]
    options += [f"values={values}"] if values == "joint" else []
    about = [variant["name"], " ".join(options), f"{settings['optimizer']['lr']:g}", settings["seed"]]
    evaluations = map(json.loads, (folder / "evaluations.jsonl").read_text().splitlines())
    return [[*about, record["update"], [record[key] for key in FIGURES.values()]] for record in evaluations]


def table(name: str) -> str:
    """The Markdown table of all policies, by their best validation reward; ``chosen`` is the best of its method."""
    with (FOLDER / f"{name}.csv").open(newline="") as stream:
        found: dict[tuple[str, ...], list[dict[str, str]]] = {}
        for row in csv.DictReader(stream):
            found.setdefault((row["variant"], row["options"], row["lr"], row["seed"]), []).append(row)
    best = {run: max(rows, key=lambda row: float(row["reward"])) for run, rows in found.items()}
    order = sorted(best, key=lambda run: -float(best[run]["reward"]))
    chosen = {run[0]: run for run in reversed(order)}
    heads = [
        "method",
        "options",
        "lr",
        "best validation reward",
        "at step",
        "words",
        "distinct-1",
        "repeated responses",
        "chosen",
    ]
    lines = [heads, ["---"] * len(heads)]
    for run in order:
        variant, options, lr, _ = run
        row = best[run]
        figures = [f"{float(row['words']):.1f}", f"{float(row['distinct']):.2f}", f"{float(row['repeated']):.2f}"]
        is_chosen = "yes" if chosen[variant] == run else ""
        lines.append([f"`{variant}`", options, rate(lr), f"{float(row['reward']):.3f}", row["step"], *figures, is_chosen])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["collect", "table"])
    parser.add_argument("name", help="of the CSV file in scripts/measurements/rates")
    parser.add_argument("folders", nargs="*", type=Path, help="folders of policies, for collect")
    given = parser.parse_args(arguments)
    sys.stdout.write(f"{collect(given.name, given.folders) if given.what == 'collect' else table(given.name)}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
