"""Text of others, shown with its control characters escaped."""

from __future__ import annotations

import re

# characters that move a terminal's cursor, reorder text or cannot be encoded: C0 and C1 except the newline, line separators,
# bidirectional overrides, lone surrogates
HIDDEN = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str, limit: int | None = None) -> str:
    """Text with control characters escaped, cut after ``limit`` characters."""
    cut = text if limit is None or len(text) <= limit else text[:limit].rstrip() + " ..."
    return HIDDEN.sub(lambda found: found.group().encode("unicode_escape").decode(), cut)


def one_line(text: str) -> str:
    """The same, with newlines escaped too: for names in tables and messages."""
    return visible(text).replace("\n", "\\n")
