"""Compute V(x) and the reference log-probs."""

from __future__ import annotations

from aloll_cli.artifacts.pipeline import Pipeline
from aloll_cli.settings.root import Settings
from aloll_cli.store.store import Store


def run(settings: Settings, store: Store) -> None:
    """Build the values V(x) of the training prompts and ln π_ref of every token of the training responses."""
    line = Pipeline(settings)
    store.ensure(line.values)
    store.ensure(line.reference_logps)
