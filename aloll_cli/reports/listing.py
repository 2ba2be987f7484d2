"""The table of `aloll runs`."""

from __future__ import annotations

from collections.abc import Sequence

from aloll_cli.comparison.grouping import typed
from aloll_cli.comparison.listing import Listed
from aloll_cli.reports.text import interval, number
from aloll_cli.visible import one_line

HEADINGS = ("task", "variant", "seed", "differs in", "validation", "gain [95% interval]", "date", "run", "page")


def table(found: Sequence[Listed]) -> list[str]:
    """Lines of text: headings, and one line per run."""
    rows = [HEADINGS, *(tuple(map(one_line, _cells(one))) for one in found)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _cells(one: Listed) -> tuple[str, ...]:
    metrics, validation = one.run.metrics, one.run.validation
    return (
        metrics["task"],
        one.run.variant,
        "-" if one.run.seed is None else str(one.run.seed),
        typed(one.differs) or "-",
        "-" if validation is None else number(validation),
        "-" if metrics["gain"] is None else interval(metrics["gain"], "+"),
        f"{one.date:%Y-%m-%d %H:%M}",
        one.run.name,
        "-" if one.page is None else str(one.page),
    )
