"""Fine-tune π_ref by NLL."""

from __future__ import annotations

from aloll_cli.artifacts.base import Store
from aloll_cli.artifacts.line import Line
from aloll_cli.settings import Settings


def run(settings: Settings, store: Store) -> None:
    """Make the reference; where ``reference=pretrained``, this only notes which model it is."""
    store.ensure(Line(settings).reference)
