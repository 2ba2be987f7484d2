"""The table of a comparison as text, whatever it is written in: which columns there are, and how a figure is printed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aloll_cli.comparison.differences import Comparison
from aloll_cli.comparison.grouping import option_of, shown
from aloll_cli.reports.comparison_columns import Column, columns
from aloll_cli.reports.text import counted, interval, number

GAP = 2  # characters between two cells
NOTHING = "-"

Cells = tuple[str, list[str]]  # a heading and one cell per row


def names_of(found: Comparison) -> list[Cells]:
    """The columns that identify methods: variant, seed and the options that differ; empty ones are left out."""
    methods = found.methods
    named = [("variant", [method.variant for method in methods]), ("seed", [method.seed for method in methods])]
    for key in dict.fromkeys(key for method in methods for key in method.told):
        named.append((option_of(key), [shown(method.told[key]) if key in method.told else "" for method in methods]))
    return [(heading, cells) for heading, cells in named if any(cells)]


def figures_of(found: Comparison, more: Sequence[Column] = ()) -> list[Cells]:
    """The columns of figures.

    Args:
        found: the methods.
        more: columns to add.
    """
    return [(heading, [_cell(figure, sign) for figure in row]) for heading, row, sign in [*columns(found), *more]]


def packed(names: list[Cells], figures: list[Cells], width: int) -> list[list[Cells]]:
    """Split columns into tables of at most ``width`` characters; each repeats the columns that name the rows."""
    tables = [list(names)]
    for column in figures:
        if _width([*tables[-1], column]) > width and len(tables[-1]) > len(names):
            tables.append(list(names))
        tables[-1].append(column)
    return tables


def _width(table: list[Cells]) -> int:
    return sum(max(map(len, [heading, *cells])) + GAP for heading, cells in table) - GAP


def _cell(figure: Any, sign: str = "") -> str:
    if figure is None:
        return NOTHING
    if sign == ",":
        return counted(figure)
    if isinstance(figure, tuple):
        return " to ".join(number(bound, sign) for bound in figure)
    return interval(figure, sign) if isinstance(figure, dict) else number(figure, sign)
