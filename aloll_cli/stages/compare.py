"""Hold any evaluated run against any other: one table of methods, and a page."""

from __future__ import annotations

import json

from rich.text import Text

from aloll_cli.comparison.folders import alike, comparison, named, pages, require_alike
from aloll_cli.comparison.runs import load_run
from aloll_cli.errors import UserError
from aloll_cli.reports.comparison_columns import as_plain, costs
from aloll_cli.reports.page import write_page
from aloll_cli.reports.tables import show_methods
from aloll_cli.runtime.terminal import results
from aloll_cli.settings.choices import Format
from aloll_cli.settings.root import Settings
from aloll_cli.store.store import Store

NAMED = 3  # of the runs that are left out


def run(settings: Settings, store: Store) -> None:
    """The runs of ``runs=[FOLDER,…]``, or all under ``output_dir`` that this configuration would judge alike.

    Runs that differ in nothing but their seed are one row. ``against=`` says what rows are held against, ``best_of=`` which
    options validation chooses; ``format=json`` prints the same as one JSON object.

    Raises:
        UserError: there is nothing to compare, or it was not judged alike.
    """
    if not store.world.is_main:
        return
    others: list[str] = []
    if settings.runs:
        runs = [load_run(folder) for folder in named("runs", settings.runs)]
    else:
        runs, others = alike(settings, store.root)
    found = comparison(settings, runs)
    require_alike(found.runs)
    if found.is_single:
        what = f"{found.runs[0].name} is the only evaluated run: there is nothing to hold it against."
        raise UserError(what, "aloll run -m variant=nll,seq makes others; runs=[FOLDER,…] names them.")
    if settings.format is Format.json:
        results.print(Text(json.dumps(as_plain(found), indent=1)))
    else:
        show_methods(found, costs(found))
    page = pages(found, store.root) / "compare.html"
    write_page(found, page)
    if others:
        names = ", ".join(others[:NAMED]) + (", …" if len(others) > NAMED else "")
        store.log.say(f"left out {len(others)} that were judged otherwise or on other prompts: {names}")
    store.log.say(f"report  {page}, and {page.with_suffix('.json').name} for programs")
