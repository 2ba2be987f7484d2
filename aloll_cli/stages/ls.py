"""Say what lies under the output folder, and what uses it."""

from __future__ import annotations

from pathlib import Path

from aloll_cli.runtime.terminal import results
from aloll_cli.settings.root import Settings
from aloll_cli.store.inventory import entries, table
from aloll_cli.store.store import Store


def run(settings: Settings, store: Store) -> None:
    """One line for each artifact of each task: complete or not, size, age, and which kinds were made from it."""
    if store.world.is_main:
        found = entries(Path(settings.output_dir).expanduser())
        for line in table(found, found):
            results.print(line, markup=False)
        if not found:
            store.log.say(f"nothing under {settings.output_dir}")
