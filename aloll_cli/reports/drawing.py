"""Figures of the pages: drawn by matplotlib, as inline SVG that a strict Content-Security-Policy allows."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.figure import Figure

# mid-tones with contrast on white and on black, safe for colour-blind readers; after eight they repeat
COLOURS = ("#3d85c6", "#d9822b", "#2f9e77", "#c0579a", "#8474cf", "#c9a227", "#d1495b", "#5f9ea0")
MARKERS = "osD^vPX*"
GREY = "#888888"  # of axes, and of the reference
SIZE = (4.8, 2.8)  # inches of a figure in the grid
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "aloll", "svg.fonttype": "none", "font.size": 11, "text.color": GREY, "axes.labelcolor": GREY,
    "xtick.color": GREY, "ytick.color": GREY, "axes.edgecolor": GREY, "axes.spines.top": False, "axes.spines.right": False,
    "axes.spines.left": False, "ytick.major.size": 0, "grid.color": GREY, "grid.alpha": 0.25, "grid.linewidth": 0.6,
    "axes.grid": True, "axes.grid.axis": "y", "axes.formatter.useoffset": False, "text.parse_math": False,
}  # fmt: skip
UNWANTED = (  # a page cannot hold the prologue, the metadata and a global style, and ids of several figures would collide
    r"^.*?(?=<svg)", r"<metadata>.*?</metadata>", r"<defs>\s*<style.*?</defs>", r' id="[a-z]+_\d+"',
)  # fmt: skip


@dataclass(frozen=True)
class Plot:
    """A drawn figure with its title and explanation."""

    title: str
    note: str
    svg: Markup
    is_tall: bool = False


def colour(look: int) -> str:
    """The colour of a method by its place on the page."""
    return COLOURS[look % len(COLOURS)]


def svg(draw: Callable[[Figure], None], inches: tuple[float, float], told: str) -> Markup:
    """An inline SVG with transparent background that fills its container; ``told`` is the text for screen readers."""
    use_own_style()
    import matplotlib as mpl
    from markupsafe import Markup
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=inches, layout="constrained")
        draw(figure)
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    drawn = file.getvalue()
    for unwanted in UNWANTED:
        drawn = re.sub(unwanted, "", drawn, flags=re.DOTALL)
    drawn = re.sub(r' style="([^"]*)"', _as_attributes, drawn)
    opening = Markup('<svg role="img" aria-label="{}"').format(told)
    drawn = re.sub(r' (?:width|height)="[\d.]+pt"', "", drawn)
    return opening + Markup(drawn.removeprefix("<svg")).replace(">", Markup("><title>{}</title>").format(told), 1)


def _as_attributes(found: re.Match[str]) -> str:
    """A style attribute as presentation attributes, because the page's policy forbids the former; the page sets the font."""
    pairs = (pair.partition(":") for pair in found[1].split(";") if pair.strip())
    styles = {key.strip(): value.strip() for key, _, value in pairs}
    if font := styles.pop("font", None):
        styles["font-size"] = font.split()[0]
    return "".join(f' {key}="{value}"' for key, value in styles.items())


def use_own_style() -> None:
    """Keep matplotlib from reading a matplotlibrc in the current folder, which may be anybody's."""
    spec = find_spec("matplotlib")
    if spec is not None and spec.submodule_search_locations:
        os.environ.setdefault("MATPLOTLIBRC", str(Path(spec.submodule_search_locations[0], "mpl-data", "matplotlibrc")))
