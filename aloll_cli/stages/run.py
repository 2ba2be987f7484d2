"""The whole line, to its end."""

from __future__ import annotations

from aloll_cli.settings.root import Settings
from aloll_cli.stages import evaluate, report
from aloll_cli.store.store import Store


def run(settings: Settings, store: Store) -> float | None:
    """Evaluate (which makes all that is needed before) and write the report."""
    gain = evaluate.run(settings, store)
    report.run(settings, store)
    return gain
