"""How figures for papers look: a column wide, at 8 points, in colours that colour-blind readers tell apart."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aloll_cli.reports.drawing import use_own_style
from aloll_cli.visible import one_line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from aloll_cli.comparison.grouping import Method

WIDTH = 3.25  # inches: a column of ACL, ICML and IEEE
POINT = 8  # the size of all text
LINE = 0.17  # inches of a line of the legend
LONGEST = 34  # characters of a name
GREY = "#777777"
# Okabe and Ito's, without the yellow that white swallows; with markers and dashes they are told apart in print, too
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
MARKERS = "osD^vPX*"
LINES = ("-", "--", "-.", ":")
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "aloll", "svg.fonttype": "path", "pdf.fonttype": 42, "font.size": POINT, "axes.labelsize": POINT,
    "axes.titlesize": POINT, "xtick.labelsize": POINT, "ytick.labelsize": POINT, "legend.fontsize": POINT,
    "legend.frameon": False, "legend.borderpad": 0.2, "legend.handlelength": 1.8, "legend.columnspacing": 1.2,
    "axes.linewidth": 0.6, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#dddddd",
    "grid.linewidth": 0.5, "axes.axisbelow": True, "xtick.major.width": 0.6, "ytick.major.width": 0.6, "xtick.major.size": 2.5,
    "ytick.major.size": 2.5, "lines.markersize": 4, "axes.formatter.useoffset": False, "text.parse_math": False,
    "text.usetex": False,
}  # fmt: skip
FILES: dict[str, dict[str, Any]] = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}  # suffix: metadata without a date


@dataclass(frozen=True)
class Series:
    """What one method looks like in all figures."""

    name: str
    colour: str
    marker: str
    line: str


def legend_of(methods: Sequence[Method]) -> list[Series]:
    """A look for each method."""
    return [
        Series(method.name, COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)], LINES[i // len(COLOURS) % len(LINES)])
        for i, method in enumerate(methods)
    ]


def shortened(name: str) -> str:
    """A name on one line, with its middle left out where it is long."""
    shown = one_line(name)
    half = LONGEST // 2
    return shown if len(shown) <= LONGEST else f"{shown[:half]}…{shown[-half + 1 :]}"


def save(stem: Path, height: float, draw: Any, legend: Sequence[Series]) -> list[Path]:
    """Draw a figure and save it as SVG and as PDF; returns the files.

    Args:
        stem: their path without a suffix.
        height: of the axes with their labels, in inches; a legend comes on top.
        draw: draws on axes.
        legend: what looks mean.
    """
    use_own_style()
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the numbers beside it have the name
        columns = _columns(legend)
        rows = -(-len(legend) // columns)
        figure = Figure(figsize=(WIDTH, height + LINE * rows), layout="constrained")
        draw(figure.add_subplot())
        if legend:
            _add_legend(figure, legend, columns)
        for suffix, metadata in FILES.items():
            figure.savefig(stem.with_suffix(suffix), metadata=metadata)
    return [stem.with_suffix(suffix) for suffix in FILES]


def _columns(legend: Sequence[Series]) -> int:
    """Columns of a legend that fit the width: a name's letters and its handle at 8 points."""
    longest = max((len(shortened(look.name)) for look in legend), default=1)
    return max(1, min(len(legend) or 1, int(WIDTH / (0.062 * longest + 0.45))))


def _add_legend(figure: Figure, legend: Sequence[Series], columns: int) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=look.colour, marker=look.marker, ls=look.line) for look in legend]
    figure.legend(handles, [shortened(look.name) for look in legend], loc="outside lower center", ncols=columns)
