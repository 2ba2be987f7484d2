"""Evaluated runs of all tasks under an output folder, one line each."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import inf
from pathlib import Path
from typing import Any

from aloll_cli.comparison.grouping import settings_apart, shown
from aloll_cli.comparison.runs import Run, load_run
from aloll_cli.errors import UserError
from aloll_cli.settings.choices import Sort


@dataclass(frozen=True)
class Listed:
    """A run in a list.

    Attributes:
        run: the run.
        differs: its options whose values most other runs of the task do not have, variant and seed apart.
        date: when it was evaluated.
        page: its page, or None if no report was written.
    """

    run: Run
    differs: dict[str, Any]
    date: datetime
    page: Path | None

    @property
    def gain(self) -> float | None:
        """Its mean gain; None without a scorer."""
        gain = self.run.metrics["gain"]
        return None if gain is None else float(gain["mean"])

    def plain(self) -> dict[str, Any]:
        """As plain values."""
        metrics, run = self.run.metrics, self.run
        return {
            "run": run.name, "task": metrics["task"], "variant": run.variant, "seed": run.seed, "split": metrics["split"],
            "differs": self.differs, "validation": run.validation, "validation_by": run.score, "reward": metrics["reward"],
            "gain": metrics["gain"], "date": self.date.isoformat(timespec="seconds"), "folder": str(run.folder),
            "page": None if self.page is None else str(self.page),
        }  # fmt: skip


def listed(output_dir: Path, where: Sequence[str], sort: Sort, warn: Callable[[str], None]) -> list[Listed]:
    """The evaluated runs under an output folder that meet all conditions, sorted.

    Args:
        output_dir: the folder.
        where: conditions ``OPTION=VALUE``, or ``OPTION=VALUE,VALUE`` for one of several.
        sort: the order; runs without the figure come last.
        warn: called for runs that cannot be read, which are left out.
    """
    runs = [run for run in _loaded(output_dir, warn) if all(_meets(run.options, condition) for condition in where)]
    found: list[Listed] = []
    for task in dict.fromkeys(run.metrics["task"] for run in runs):
        alike = [run for run in runs if run.metrics["task"] == task]
        for run, differs in zip(alike, _differing(alike), strict=True):
            page = run.folder.parents[1] / "report" / f"{run.name}.html"
            date = datetime.fromtimestamp((run.folder / "metrics.json").stat().st_mtime).astimezone()
            found.append(Listed(run, differs, date, page if page.is_file() else None))
    figures = [(FIGURES[sort](one), one) for one in found]
    return [one for _, one in sorted(figures, key=lambda pair: -inf if pair[0] is None else pair[0], reverse=True)]


FIGURES: dict[Sort, Callable[[Listed], float | None]] = {
    Sort.date: lambda one: one.date.timestamp(),
    Sort.gain: lambda one: one.gain,
    Sort.validation: lambda one: one.run.validation,
}


def _loaded(output_dir: Path, warn: Callable[[str], None]) -> list[Run]:
    runs: list[Run] = []
    for file in sorted(output_dir.glob("*/metrics/*/metrics.json")):
        if file.parent.suffix == ".partial":
            continue
        try:
            runs.append(load_run(file.parent))
        except UserError as error:
            warn(f"left out: {error.args[0]}")
    return runs


def _differing(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """For each run the options, variant and seed apart, whose value is not the most frequent one."""
    apart = settings_apart([run.options for run in runs])
    absent = {key: None for one in apart for key in one if key.endswith(".name")}  # a group that is null, such as adapter
    apart = [absent | one for one in apart]
    usual = {
        key: Counter(json.dumps(one[key]) for one in apart if key in one).most_common(1)[0][0]
        for key in dict.fromkeys(key for one in apart for key in one)
    }
    return [{key: value for key, value in one.items() if json.dumps(value) != usual[key]} for one in apart]


def _meets(options: Mapping[str, Any], condition: str) -> bool:
    """Whether a run has one of the values of a condition; of a group its choice counts."""
    key, _, values = condition.partition("=")
    found = options.get(key, options.get(f"{key}.name", "null"))
    return any(_is(found, value) for value in (values, *values.split(",")))


def _is(found: Any, value: str) -> bool:
    if isinstance(found, int | float) and not isinstance(found, bool):
        try:
            return float(value) == found
        except ValueError:
            return False
    return shown(found).replace(" ", "") == value.replace(" ", "")
