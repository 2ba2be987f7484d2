"""A comparison as Markdown: a table of GitHub's kind, and what its columns mean."""

from __future__ import annotations

import re
from collections.abc import Sequence

from aloll_cli.comparison.differences import Comparison
from aloll_cli.reports.comparison_columns import caveats, costs
from aloll_cli.reports.method_table import figures_of, names_of
from aloll_cli.visible import one_line

# what begins a link, emphasis, code, a tag, an entity, a heading or another cell, or makes a link of an address
SPECIAL = re.compile(r"[\\`*_~\[\]<>|&#]|:(?=//)|(?<=www)\.")


def markdown(found: Comparison) -> str:
    """A table with one row per method, and a list of what its columns mean."""
    more = costs(found)
    names, figures = names_of(found), figures_of(found, more)
    headings = [escaped(heading) for heading, _ in [*names, *figures]]
    rows = zip(*([escaped(cell) for cell in cells] for _, cells in names), *(cells for _, cells in figures), strict=True)
    rule = ["---"] * len(names) + ["---:"] * len(figures)
    table = [_row(headings), _row(rule), *map(_row, rows)]
    about = f"{found.counted}: mean \\[95% confidence interval\\]"
    return "\n".join([about, "", *table, "", *(f"- {escaped(note)}" for note in caveats(found, more)), ""])


def escaped(text: str) -> str:
    """A text that Markdown shows as it is, on one line."""
    return SPECIAL.sub(r"\\\g<0>", one_line(text))


def coded(text: str) -> str:
    """A text as code, in a paragraph or in a cell of a table, whatever it holds."""
    shown = one_line(text).replace("|", "\\|") or " "
    fence = "`" * (1 + max(map(len, re.findall("`+", shown)), default=0))
    return f"{fence} {shown} {fence}" if "`" in shown else f"{fence}{shown}{fence}"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
