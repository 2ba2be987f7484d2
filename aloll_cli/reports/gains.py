"""The plot of several methods' gains over the reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from aloll_cli.comparison.differences import Row
from aloll_cli.reports.drawing import GREY, Plot, colour, svg
from aloll_cli.reports.text import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GAINS = {"gain": "reward gain", "held_out_gain": "held-out reward gain"}  # estimate: axis label


def gains(rows: Sequence[Row]) -> Plot | None:
    """Every method's gain: the mean with its interval, and the mean of each seed below."""
    panels = {title: name for name, title in GAINS.items() if any(name in row.estimates for row in rows)}
    if not panels:
        return None

    def draw(figure: Figure) -> None:
        places = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axes, (title, name) in zip(places, panels.items(), strict=True):
            for place, row in enumerate(rows):
                if name in row.estimates:
                    _draw_estimate(axes, place, row.estimates[name], colour(place))
            axes.axvline(0, color=GREY, linewidth=1)
            axes.set_xlabel(title)
            axes.set_yticks(range(len(rows)), [row.method.name for row in rows])
            axes.set_ylim(len(rows) - 0.4, -0.6)
            axes.grid(axis="y", visible=False)
            axes.grid(axis="x")

    told = "; ".join(
        f"{row.method.name} " + ", ".join(f"{title} {number(row.estimates[name]['mean'], '+')}" for title, name in panels.items())
        for row in rows
        if all(name in row.estimates for name in panels.values())
    )
    inches = (3.0 + 2.4 * len(panels), 0.9 + 0.32 * len(rows))
    return Plot("Gain over the reference", "", svg(draw, inches, f"Gain over the reference: {told}."))


def _draw_estimate(axes: Axes, place: int, estimate: dict[str, Any], shade: str) -> None:
    if estimate["ci95"] is not None:
        axes.plot(estimate["ci95"], [place, place], color=shade, linewidth=2.4, solid_capstyle="round")
    axes.plot(estimate["mean"], place, "o", color=shade, markersize=6)
    if len(estimate["by_seed"]) > 1:
        beneath = [place + 0.28] * len(estimate["by_seed"])
        axes.plot(estimate["by_seed"], beneath, "o", color=shade, markersize=3.5, fillstyle="none", linewidth=0)
