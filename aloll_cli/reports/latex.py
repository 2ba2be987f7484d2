"""A comparison as LaTeX: tables of booktabs that stand in a document as they are, whatever the names in them hold."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from aloll_cli.comparison.differences import Comparison
from aloll_cli.reports.comparison_columns import caveats, costs
from aloll_cli.reports.method_table import Cells, figures_of, names_of, packed
from aloll_cli.visible import one_line

WIDTH = 96  # characters of a row that fit a page's text in \small
# TeX's own characters; those that its oldest fonts have other glyphs for; and those that at the beginning of a row would be read
# as options of the one before
SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "%": r"\%", "#": r"\#", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    '"': r"\char34{}", "`": r"\char96{}", "[": "{[}", "*": "{*}",
}  # fmt: skip
LIGATURE = re.compile(r"([-,'])(?=\1)")  # dashes and quotation marks that TeX makes of two characters
ACCENTS = {
    "\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0304": "=", "\u0306": "u", "\u0307": ".", "\u0308": '"',
    "\u030a": "r", "\u030b": "H", "\u030c": "v", "\u0327": "c",
}  # fmt: skip
SIGN = re.compile(r"(?<![\w.])[+-](?=\d)")


def latex(found: Comparison) -> str:
    """Tables with one row per method, as many as their columns need, and as comments what the columns mean."""
    more = costs(found)
    names, figures = names_of(found), figures_of(found, more)
    head = [f"% {found.counted}: mean [95% confidence interval]. Needs \\usepackage{{booktabs}}."]
    tables = [_tabular(columns, len(names)) for columns in packed(names, figures, WIDTH)]
    notes = [f"% {one_line(note)}" for note in caveats(found, more)]
    return "\n".join([*head, "\n\\medskip\n\n".join(tables), *notes, ""])


def _tabular(columns: Sequence[Cells], names: int) -> str:
    spec = "l" * names + "r" * (len(columns) - names)
    rows = zip(*(cells for _, cells in columns), strict=True)
    body = [
        " & ".join([*(escaped(cell) for cell in row[:names]), *(_figure(cell) for cell in row[names:])]) + r" \\" for row in rows
    ]
    heading = " & ".join(escaped(heading) for heading, _ in columns) + r" \\"
    lines = [
        rf"\begin{{tabular}}{{@{{}}{spec}@{{}}}}",
        r"\toprule",
        heading,
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "{\\small\n" + "\n".join(lines) + "\n}"


def escaped(text: str) -> str:
    """A text that TeX typesets as it is: with ASCII alone, so that it needs no package and no other engine.

    Accented letters become accents; of other characters beyond ASCII the number stands, ``(U+4F60)``.
    """
    return LIGATURE.sub(r"\1{}", "".join(map(_character, one_line(text))))


def _character(char: str) -> str:
    if char.isascii():
        return SPECIAL.get(char, char)
    letter, *accents = list(unicodedata.normalize("NFD", char))
    if letter.isascii() and letter.isalpha() and len(accents) == 1 and accents[0] in ACCENTS:
        return rf"\{ACCENTS[accents[0]]}{{{letter}}}"
    return f"(U+{ord(char):04X})"


def _figure(cell: str) -> str:
    """A cell of numbers, with a minus where a hyphen stands."""
    return SIGN.sub(lambda sign: f"${sign.group()}$", cell)
