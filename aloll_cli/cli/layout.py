"""Texts of help in columns that fit a terminal."""

from __future__ import annotations

import textwrap

WIDTH = 80
COLUMN = 28  # where descriptions begin


def entry(left: str, what: str, more: str = "", column: int = COLUMN) -> list[str]:
    """A name and what it means, wrapped in two columns."""
    text = f"{what} ({more})" if what and more else what or more
    rows = textwrap.wrap(text, WIDTH - column, break_on_hyphens=False, break_long_words=False) or [""]
    first = f"  {left} "
    if len(first) > column:
        return [first.rstrip(), *(" " * column + row for row in rows if row)]
    return [f"{first:{column}}{rows[0]}".rstrip(), *(" " * column + row for row in rows[1:])]


def wrapped(text: str, indent: str = "") -> list[str]:
    """Lines of running text."""
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)
