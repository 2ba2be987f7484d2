"""Compute V(x)."""

from __future__ import annotations

from aloll_cli.artifacts.pipeline import Pipeline
from aloll_cli.settings.root import Settings
from aloll_cli.store.store import Store


def run(settings: Settings, store: Store) -> None:
    """Build the values V(x) of the training prompts."""
    store.ensure(Pipeline(settings).values)
