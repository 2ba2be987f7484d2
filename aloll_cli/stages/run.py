"""The whole pipeline."""

from __future__ import annotations

from aloll_cli.artifacts.pipeline import Pipeline
from aloll_cli.reports.estimate import warn_if_long
from aloll_cli.settings.root import Settings
from aloll_cli.stages import evaluate, report
from aloll_cli.store.store import Store


def run(settings: Settings, store: Store) -> float | None:
    """Evaluate, which builds all that is missing, and write the report; returns the mean gain."""
    line = Pipeline(settings)
    warn_if_long(line, line.metrics, store)
    gain = evaluate.run(settings, store)
    report.run(settings, store)
    return gain
