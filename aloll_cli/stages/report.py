"""Write one HTML page about a run or several."""

from __future__ import annotations

from pathlib import Path

from aloll_cli.artifacts.base import Store
from aloll_cli.artifacts.line import Line
from aloll_cli.artifacts.manifest import damage_of
from aloll_cli.errors import UserError
from aloll_cli.page import write_page
from aloll_cli.reporting import show_runs
from aloll_cli.runs import load_run
from aloll_cli.settings import Settings


def run(settings: Settings, store: Store) -> None:
    """A page of ``runs=[FOLDER,…]`` (folders of metrics), or of this configuration's own run, made first if need be."""
    folders = [Path(name) for name in settings.runs] or [store.ensure(Line(settings).metrics)]
    for folder in folders:
        if not (folder / "metrics.json").is_file():
            raise UserError(
                f"runs: {folder} holds no metrics.json.", "Name folders such as outputs/<task>/metrics/seq-s1-test-…."
            )
        if damage := damage_of(folder):
            raise UserError(
                f"runs: {folder} is damaged: {damage.what}.", "Make it again with aloll evaluate …, or copy the whole folder."
            )
        if not (folder / "recipe.json").is_file():
            raise UserError(
                f"runs: {folder} was not made by aloll evaluate: it holds no recipe.json.", "runs=[outputs/TASK/metrics/…]"
            )
    if store.world.is_main:
        report([folder.resolve() for folder in folders], store)


def report(folders: list[Path], store: Store) -> Path:
    """Write the page about some evaluated runs and say where it is."""
    runs = [load_run(folder) for folder in folders]
    page = store.root / "report" / ("index.html" if len(runs) > 1 else f"{folders[0].name}.html")
    page.parent.mkdir(parents=True, exist_ok=True)
    write_page(runs, page)
    if len(runs) > 1:
        show_runs(runs)
    store.log.say(f"report  {page}")
    return page
