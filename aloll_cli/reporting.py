"""What an evaluated run looks like: tables on the terminal, one page in HTML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aloll_cli.files import read_json
from aloll_cli.terminal import results


def load_run(folder: Path) -> dict[str, Any]:
    return {"folder": folder, "metrics": read_json(folder / "metrics.json")}


def show_comparison(metrics: dict[str, Any], folder: Path) -> None:
    results.print_json(data=metrics)


def show_answers(answers: list[dict[str, Any]]) -> None:
    for a in answers:
        results.print(a, markup=False)


def show_runs(runs: list[dict[str, Any]]) -> None:
    for r in runs:
        results.print(r["metrics"]["variant"], r["metrics"]["gain"], markup=False)


def write_page(runs: list[dict[str, Any]], page: Path) -> None:
    page.write_text("")
