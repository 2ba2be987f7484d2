"""π_ref's samples, V(x) and per-token log-probs."""

from __future__ import annotations

from aloll_cli.artifacts.pipeline import Pipeline
from aloll_cli.settings.root import Settings
from aloll_cli.store.store import Store


def run(settings: Settings, store: Store) -> None:
    """Make all that is constant while a policy trains."""
    line = Pipeline(settings)
    store.ensure(line.values)
    store.ensure(line.reference_logps)
