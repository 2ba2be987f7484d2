"""What validation says of policies trained with other options: collects their evaluations into a CSV file, and prints its table.

    python scripts/rates.py collect hha_small outputs/hha/policy/*
    python scripts/rates.py table hha_small

``scripts/measurements/rates/NAME.csv`` has a row per evaluation of each policy; ``collect`` adds to it. Nothing here has seen a
test prompt: this is how options are chosen before methods are compared (measurements.py).
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from measurements import markdown, rate

from aloll_cli.comparison.grouping import option_of
from aloll_cli.schema import flatten

FOLDER = Path(__file__).parent / "measurements" / "rates"
STRENGTHS = ("beta", "tau", "alpha")  # options of a variant that say what it aims at
OTHERS = {"rounds": 1, "round_prompts": None, "reduction": "sum"}  # told where they are not these
VALUES = {"dro": "joint", "a_star": "monte_carlo", "qrpo": "monte_carlo"}  # what a method chooses; the others have head
ABOUT = ("variant", "options", "lr", "steps", "seed")  # columns that say which policy
FIGURES = {"reward": "score", "words": "length", "distinct": "distinct_1", "repeated": "repeated"}  # column: key of an evaluation


def collect(name: str, folders: Sequence[Path]) -> Path:
    """Add finished policies to the CSV file, without those of earlier rounds.

    Raises:
        SystemExit: two differ in options that the file does not tell.
    """
    FOLDER.mkdir(parents=True, exist_ok=True)
    file = FOLDER / f"{name}.csv"
    policies = _read(file) if file.exists() else {}
    for folder in folders:
        if (folder / "manifest.json").exists():
            settings = flatten(yaml.safe_load((folder / "config.yaml").read_text()))
            if settings["rounds"] > 1 and f"-round-{settings['rounds']}-" not in folder.name:
                continue
            about, rows = _rows(folder, settings)
            there = policies.setdefault(about, rows)[0]["policy"]
            if there != rows[0]["policy"]:
                raise SystemExit(f"{there} and {rows[0]['policy']} are both {' '.join(about)}")
    written = file.with_suffix(".new")
    with written.open("w", newline="") as stream:
        out = csv.DictWriter(stream, [*ABOUT, "policy", "step", *FIGURES], lineterminator="\n")
        out.writeheader()
        out.writerows(dict(zip(ABOUT, about, strict=True)) | row for about in sorted(policies) for row in policies[about])
    written.replace(file)
    return file


def _read(file: Path) -> dict[tuple[str, ...], list[dict[str, str]]]:
    """The evaluations of each policy in the CSV file, by the values of ABOUT."""
    found: dict[tuple[str, ...], list[dict[str, str]]] = {}
    with file.open(newline="") as stream:
        for row in csv.DictReader(stream):
            found.setdefault(tuple(row.pop(key) for key in ABOUT), []).append(row)
    return found


def _rows(folder: Path, settings: Mapping[str, Any]) -> tuple[tuple[str, ...], list[dict[str, str]]]:
    """What a policy is, by ABOUT, and its evaluations."""
    options = [f"{key}={settings[f'variant.{key}']:g}" for key in STRENGTHS if f"variant.{key}" in settings]
    usual_ones = {"values.name": VALUES.get(settings["variant.name"], "head")} | OTHERS
    options += [f"{option_of(key)}={settings[key]}" for key, usual in usual_ones.items() if settings.get(key) != usual]
    lr, steps, seed = f"{settings['optimizer.lr']:g}", str(settings["updates"]), str(settings["seed"])
    evaluations = map(json.loads, (folder / "evaluations.jsonl").read_text().splitlines())
    return (settings["variant.name"], " ".join(options), lr, steps, seed), [
        {"policy": folder.name.rpartition("-")[2], "step": str(record["update"])}
        | {column: f"{record[key]:.5g}" for column, key in FIGURES.items()}
        for record in evaluations
    ]


def table(name: str) -> str:
    """The Markdown table of all policies, by their best validation reward."""
    best = {run: max(rows, key=lambda row: float(row["reward"])) for run, rows in _read(FOLDER / f"{name}.csv").items()}
    lines = [
        ["method", "options", "lr", "steps", "best validation reward", "at step", "words", "distinct-1", "repeated responses"]
    ]
    for (variant, options, lr, steps, _), row in sorted(best.items(), key=lambda one: -float(one[1]["reward"])):
        figures = [f"{float(row['words']):.1f}", f"{float(row['distinct']):.2f}", f"{float(row['repeated']):.2f}"]
        lines.append([f"`{variant}`", options, rate(lr), steps, f"{float(row['reward']):.3f}", row["step"], *figures])
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
