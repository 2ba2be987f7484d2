"""Write an HTML page about one or more runs."""

from __future__ import annotations

from aloll_cli.artifacts.pipeline import Pipeline
from aloll_cli.comparison.differences import Comparison, compared
from aloll_cli.comparison.folders import comparison, named, pages
from aloll_cli.comparison.runs import load_run
from aloll_cli.reports.figure_folder import check_folder, write_figures
from aloll_cli.reports.page import name_of, write_page
from aloll_cli.reports.tables import show_methods
from aloll_cli.settings.root import Settings
from aloll_cli.store.store import Store


def run(settings: Settings, store: Store) -> None:
    """Write a page about ``runs=[FOLDER,…]`` (metrics folders), or about this configuration's run, which is built if missing.

    ``figures=FOLDER`` also draws figures for a paper.

    Raises:
        UserError: the runs cannot be read, or the folder of the figures holds something else.
    """
    figures = None if settings.figures is None else check_folder(settings.figures)
    folder = None if settings.runs else store.ensure(Pipeline(settings).metrics)
    if not store.world.is_main:
        return
    if folder is None:
        found = comparison(settings, named("runs", settings.runs, store.log.warn), store.log.warn)
    else:
        found = compared([load_run(folder)])
    show(found, store)
    if figures is not None:
        names = write_figures(found, figures)
        store.log.say(f"figures   {figures}: {', '.join(names)}")


def show(found: Comparison, store: Store) -> None:
    """Write the page about evaluated runs and log its path; for several runs, also print the table."""
    page = pages(found, store.root) / name_of(found)
    write_page(found, page)
    if not found.is_single:
        show_methods(found)
    store.log.say(f"report    {page}")
