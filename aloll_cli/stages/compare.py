"""Compare evaluated runs: a table with one row per method, in any format, and an HTML page."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aloll_cli.comparison.differences import Comparison
from aloll_cli.comparison.folders import alike, comparison, named, pages, require_alike
from aloll_cli.errors import UserError
from aloll_cli.files import write_new
from aloll_cli.reports.comparison_columns import as_plain, costs
from aloll_cli.reports.csv_table import csv_table
from aloll_cli.reports.latex import latex
from aloll_cli.reports.markdown import markdown
from aloll_cli.reports.page import name_of, render, write_page
from aloll_cli.reports.tables import show_methods
from aloll_cli.runtime.terminal import results
from aloll_cli.settings.choices import Format
from aloll_cli.settings.root import Settings
from aloll_cli.store.store import Store
from aloll_cli.visible import on_terminal

SUFFIXES = {Format.page: ".html", Format.json: ".json", Format.csv: ".csv", Format.markdown: ".md", Format.latex: ".tex"}
WRITERS: dict[Format, Callable[[Comparison], str]] = {
    Format.page: render,
    Format.json: lambda found: json.dumps(as_plain(found), indent=1) + "\n",
    Format.csv: csv_table,
    Format.markdown: markdown,
    Format.latex: latex,
}
NAMED = 3  # at most, of the runs that are left out


def run(settings: Settings, store: Store) -> dict[str, Any] | None:
    """Compare the runs of ``runs=[FOLDER,…]``, or all under ``output_dir`` with this configuration's task, split and rewards.

    Runs that differ only in their seed are one row. ``against=`` sets the baseline, ``best_of=`` the options whose values are
    selected by validation score; ``format=`` prints the same as JSON, CSV, Markdown or LaTeX, and ``to=`` writes it to a file.
    The JSON object is returned.

    Raises:
        UserError: there is only one run or none, the runs cannot be compared, or the file cannot be written.
    """
    if settings.to is not None:
        _check_place(settings.to, settings.format)
    if not store.world.is_main:
        return None
    others: dict[str, list[str]] = {}
    if settings.runs:
        runs = named("runs", settings.runs, store.log.warn)
    else:
        runs, others = alike(settings, store.root, store.log.warn)
    found = comparison(settings, runs, store.log.warn)
    require_alike(found.runs)
    if found.is_single:
        what = f"{found.runs[0].name} is the only evaluated run: there is no other run to compare it with."
        raise UserError(what, "Make others with aloll run -m variant=nll,seq, or name them with runs=[FOLDER,…].")
    if settings.format is Format.page:
        show_methods(found, costs(found))
    elif settings.to is None:
        text = WRITERS[settings.format](found)
        results.file.write(on_terminal(text) if results.is_terminal else text)
    for reason, names in others.items():
        told = ", ".join(names[:NAMED]) + (", …" if len(names) > NAMED else "")
        store.log.say(f"left out {len(names)}, because {reason}: {told}")
    if settings.to is not None:  # before the page, which is refused where outputs are read-only
        _write(settings.to, WRITERS[settings.format](found))
        store.log.say(f"wrote     {settings.to}")
    page = pages(found, store.root) / name_of(found)
    write_page(found, page)
    store.log.say(f"report    {page} (as JSON: {page.with_suffix('.json').name})")
    return as_plain(found)


def _check_place(to: str, of: Format) -> None:
    """Raises UserError where the file cannot be written, or is named as one of another format."""
    file = Path(to).expanduser()
    for other in (other for other, suffix in SUFFIXES.items() if suffix == file.suffix.lower() and other is not of):
        raise UserError(f"to={to} is the name of another file than format={of.name} writes.", f"format={other.name} to={to}")
    if file.exists():
        raise UserError(f"to={to} exists, and is not overwritten.", f"Name a new file: to={file.with_stem(f'{file.stem}-2')}")
    if not file.parent.is_dir():
        raise UserError(f"to={to}: there is no folder {file.parent}.", f"mkdir -p {file.parent}")


def _write(to: str, text: str) -> None:
    try:
        write_new(Path(to).expanduser(), text)
    except FileExistsError:
        raise UserError(f"to={to} exists by now, and is not overwritten.", "Name a new file: to=FILE") from None
