"""Write one HTML page about a run or several."""

from __future__ import annotations

from pathlib import Path

from aloll_cli.artifacts.base import Store
from aloll_cli.artifacts.line import Line
from aloll_cli.finding import comparison, named
from aloll_cli.page import write_page
from aloll_cli.reporting import show_methods
from aloll_cli.runs import load_run
from aloll_cli.settings import Settings


def run(settings: Settings, store: Store) -> None:
    """A page of ``runs=[FOLDER,…]`` (folders of metrics), or of this configuration's own run, made first if need be."""
    folders = named("runs", settings.runs) if settings.runs else [store.ensure(Line(settings).metrics)]
    if store.world.is_main:
        report(folders, settings, store)


def report(folders: list[Path], settings: Settings, store: Store) -> Path:
    """Write the page about some evaluated runs and say where it is."""
    found = comparison(settings, [load_run(folder) for folder in folders])
    several = len(found.runs) > 1
    page = store.root / "report" / ("index.html" if several else f"{folders[0].name}.html")
    write_page(found, page)
    if several:
        show_methods(found)
    store.log.say(f"report  {page}")
    return page
