"""Compare evaluated runs: a table with one row per method, and an HTML page."""

from __future__ import annotations

import json
from typing import Any

from rich.text import Text

from aloll_cli.comparison.folders import alike, comparison, named, pages, require_alike
from aloll_cli.errors import UserError
from aloll_cli.reports.comparison_columns import as_plain, costs
from aloll_cli.reports.page import name_of, write_page
from aloll_cli.reports.tables import show_methods
from aloll_cli.runtime.terminal import results
from aloll_cli.settings.choices import Format
from aloll_cli.settings.root import Settings
from aloll_cli.store.store import Store

NAMED = 3  # at most, of the runs that are left out


def run(settings: Settings, store: Store) -> dict[str, Any] | None:
    """Compare the runs of ``runs=[FOLDER,…]``, or all under ``output_dir`` with this configuration's task, split and rewards.

    Runs that differ only in their seed are one row. ``against=`` sets the baseline, ``best_of=`` the options whose values are
    selected by validation score; ``format=json`` prints the same as one JSON object, which is returned, too.

    Raises:
        UserError: there is only one run or none, or the runs cannot be compared.
    """
    if not store.world.is_main:
        return None
    others: list[str] = []
    if settings.runs:
        runs = named("runs", settings.runs, store.log.warn)
    else:
        runs, others = alike(settings, store.root, store.log.warn)
    found = comparison(settings, runs, store.log.warn)
    require_alike(found.runs)
    if found.is_single:
        what = f"{found.runs[0].name} is the only evaluated run: there is no other run to compare it with."
        raise UserError(what, "Make others with aloll run -m variant=nll,seq, or name them with runs=[FOLDER,…].")
    plain = as_plain(found)
    if settings.format is Format.json:
        results.print(Text(json.dumps(plain, indent=1)))
    else:
        show_methods(found, costs(found))
    page = pages(found, store.root) / name_of(found)
    write_page(found, page)
    if others:
        names = ", ".join(others[:NAMED]) + (", …" if len(others) > NAMED else "")
        store.log.say(f"left out {len(others)}, because the rewards, split or prompts differ: {names}")
    store.log.say(f"report    {page} (as JSON: {page.with_suffix('.json').name})")
    return plain
