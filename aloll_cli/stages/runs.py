"""List the evaluated runs under the output folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.text import Text

from aloll_cli.comparison.listing import listed
from aloll_cli.reports.listing import table
from aloll_cli.runtime.terminal import results
from aloll_cli.settings.root import Settings
from aloll_cli.store.store import Store


def run(settings: Settings, store: Store) -> list[dict[str, Any]] | None:
    """Print one line per evaluated run of any task, or with ``format=json`` a list of objects, which is returned, too.

    ``where=[variant=seq]`` lists those with that option, ``sort=`` orders them.
    """
    as_json = settings.format.is_json("runs")
    if not store.world.is_main:
        return None
    output_dir = Path(settings.output_dir).expanduser()
    found = listed(output_dir, settings.where, settings.sort, store.log.warn)
    plain = [one.plain() for one in found]
    if as_json:
        results.print(Text(json.dumps(plain, indent=1)))
        return plain
    for line in table(found) if found else ():
        results.print(line, markup=False)
    if not found:
        such = f" with {' '.join(settings.where)}" if settings.where else ""
        store.log.say(f"no evaluated runs under {output_dir}{such}; aloll ls lists all artifacts")
    return plain
