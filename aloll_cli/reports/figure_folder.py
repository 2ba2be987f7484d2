"""A folder of figures: each as SVG, PDF and CSV, and figures.json, which says what they show and of which runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from aloll_cli.comparison.differences import Comparison
from aloll_cli.errors import UserError
from aloll_cli.files import write_json, write_text
from aloll_cli.reports.csv_table import written
from aloll_cli.reports.paper_figures import PaperFigure, figures_of
from aloll_cli.reports.paper_style import save

LIST = "figures.json"
BY = "aloll report"


def check_folder(name: str) -> Path:
    """The folder. Raises UserError if it holds anything but figures that were written here before, which are replaced."""
    folder = Path(name).expanduser()
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and _listed(folder) is None)):
        what = f"figures={name} exists, and is neither an empty folder nor one of such figures."
        raise UserError(what, f"Name a new folder: figures={name}-2")
    return folder


def write_figures(found: Comparison, folder: Path) -> list[str]:
    """Write all figures that there are numbers for, in place of older ones; returns their names."""
    folder.mkdir(parents=True, exist_ok=True)
    figures = figures_of(found)
    files = {figure.name: _write(figure, folder) for figure in figures}
    kept = {name for names in files.values() for name in names}
    for old in (_listed(folder) or {}).values():
        for name in set(old["files"]) - kept:
            (folder / name).unlink(missing_ok=True)
    shown = {figure.name: {"caption": figure.caption, "files": files[figure.name]} for figure in figures}
    write_json(folder / LIST, {"by": BY, "runs": [run.name for run in found.runs], "figures": shown})
    return list(files)


def _write(figure: PaperFigure, folder: Path) -> list[str]:
    stem = folder / figure.name
    numbers = stem.with_suffix(".csv")
    write_text(numbers, written(list(figure.rows[0]), figure.rows))
    return [file.name for file in [*save(stem, figure.height, figure.draw, figure.legend), numbers]]


def _listed(folder: Path) -> dict[str, Any] | None:
    """The figures that were written into a folder before, by name; None if they were not."""
    try:
        found = json.loads((folder / LIST).read_text(encoding="utf-8"))
        figures: dict[str, Any] = found["figures"]
        names = [name for figure in figures.values() for name in figure["files"]]
        ours = found["by"] == BY and all(Path(name).name == name for name in names)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
    return figures if ours else None
