"""Text of others, shown with its control characters escaped; and numbers whose digits all say something."""

from __future__ import annotations

import re

# characters that move a terminal's cursor, reorder text or cannot be encoded: C0 and C1 except the newline, line separators,
# bidirectional overrides, lone surrogates
HIDDEN = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

MOVING = re.compile(rf"(?!\t){HIDDEN.pattern}")  # the same without the tab


def on_terminal(text: str) -> str:
    """Text whose control characters are escaped, newlines and tabs apart."""
    return _escaped(MOVING, text)


def visible(text: str, limit: int | None = None) -> str:
    """Text with control characters escaped, cut after ``limit`` characters."""
    cut = text if limit is None or len(text) <= limit else text[:limit].rstrip() + " ..."
    return _escaped(HIDDEN, cut)


def one_line(text: str) -> str:
    """The same, with newlines escaped too: for names in tables and messages."""
    return visible(text).replace("\n", "\\n")


def _escaped(hidden: re.Pattern[str], text: str) -> str:
    return hidden.sub(lambda found: found.group().encode("unicode_escape").decode(), text)


def fixed(value: float, places: int, sign: str = "") -> str:
    """A number with so many decimal places, or with three significant digits where these would be zeros: ``9.12e-08``.

    Args:
        value: the number.
        places: decimal places.
        sign: ``+`` to show the sign of positive numbers, too.
    """
    is_small = 0 < abs(value) < 10.0 ** (1 - places)
    return f"{value:{sign}.3g}" if is_small else f"{value:{sign}.{places}f}"
