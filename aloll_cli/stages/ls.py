"""List the artifacts under the output folder."""

from __future__ import annotations

from pathlib import Path

from aloll_cli.runtime.terminal import results
from aloll_cli.settings.root import Settings
from aloll_cli.store.inventory import entries, table
from aloll_cli.store.store import Store


def run(settings: Settings, store: Store) -> None:
    """Print one line per artifact of each task: state, size, age, and the kinds of artifacts that were built from it."""
    if store.world.is_main:
        found = entries(Path(settings.output_dir).expanduser())
        for line in table(found, found):
            results.print(line, markup=False)
        if not found:
            store.log.say(f"no artifacts under {settings.output_dir}")
