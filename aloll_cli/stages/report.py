"""Write an HTML page about one or more runs."""

from __future__ import annotations

from aloll_cli.artifacts.pipeline import Pipeline
from aloll_cli.comparison.differences import Comparison, compared
from aloll_cli.comparison.folders import comparison, named, pages
from aloll_cli.comparison.runs import load_run
from aloll_cli.reports.page import name_of, write_page
from aloll_cli.reports.tables import show_methods
from aloll_cli.settings.root import Settings
from aloll_cli.store.store import Store


def run(settings: Settings, store: Store) -> None:
    """Write a page about ``runs=[FOLDER,…]`` (metrics folders), or about this configuration's run, which is built if missing."""
    if settings.runs and store.world.is_main:
        show(comparison(settings, named("runs", settings.runs, store.log.warn), store.log.warn), store)
    elif not settings.runs:
        folder = store.ensure(Pipeline(settings).metrics)
        if store.world.is_main:
            show(compared([load_run(folder)]), store)


def show(found: Comparison, store: Store) -> None:
    """Write the page about evaluated runs and log its path; for several runs, also print the table."""
    page = pages(found, store.root) / name_of(found)
    write_page(found, page)
    if not found.is_single:
        show_methods(found)
    store.log.say(f"report    {page}")
