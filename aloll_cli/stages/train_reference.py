"""Fine-tune π_ref by NLL."""

from __future__ import annotations

from aloll_cli.artifacts.pipeline import Pipeline
from aloll_cli.settings.root import Settings
from aloll_cli.store.store import Store


def run(settings: Settings, store: Store) -> None:
    """Make the reference; where ``reference=pretrained``, this only notes which model it is."""
    store.ensure(Pipeline(settings).reference)
