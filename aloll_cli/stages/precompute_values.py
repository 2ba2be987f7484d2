"""π_ref's samples, V(x) and per-token log-probs."""

from __future__ import annotations

from aloll_cli.artifacts.base import Store
from aloll_cli.artifacts.line import Line
from aloll_cli.settings import Settings


def run(settings: Settings, store: Store) -> None:
    """Make all that is constant while a policy trains."""
    line = Line(settings)
    store.ensure(line.values)
    store.ensure(line.reference_logps)
