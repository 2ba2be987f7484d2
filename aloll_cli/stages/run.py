"""The whole pipeline."""

from __future__ import annotations

from aloll_cli.settings.root import Settings
from aloll_cli.stages import evaluate, report
from aloll_cli.store.store import Store


def run(settings: Settings, store: Store) -> float | None:
    """Evaluate, which builds all that is missing, and write the report; returns the mean gain."""
    gain = evaluate.run(settings, store)
    report.run(settings, store)
    return gain
