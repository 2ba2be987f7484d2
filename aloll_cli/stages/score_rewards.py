"""Score every logged response."""

from __future__ import annotations

from aloll_cli.artifacts.base import Store
from aloll_cli.artifacts.line import Line
from aloll_cli.settings import Settings
from aloll_cli.tasks.base import SPLITS


def run(settings: Settings, store: Store) -> None:
    """Make the rewards of all splits."""
    line = Line(settings)
    for split in SPLITS:
        store.ensure(line.rewards(split))
