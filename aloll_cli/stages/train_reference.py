"""Fine-tune the reference policy π_ref by NLL."""

from __future__ import annotations

from aloll_cli.artifacts.pipeline import Pipeline
from aloll_cli.settings.root import Settings
from aloll_cli.store.store import Store


def run(settings: Settings, store: Store) -> None:
    """Build the reference policy; with ``reference=pretrained`` only the model's name and options are stored."""
    store.ensure(Pipeline(settings).reference)
