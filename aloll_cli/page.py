"""One HTML page about evaluated runs: self-contained, offline, and the same bytes for the same runs."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aloll_cli.runs import (
    Run,
    caveats,
    columns,
    comparison,
    comparison_by_subset,
    conclusions,
    ending,
    number,
    settings_apart,
    visible,
)

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.axes import Axes

ANSWERS = 10  # prompts shown
SHOWN = 2000  # characters of a prompt's end and of a response
POINTS = 80  # of a training curve; each is the mean of the updates up to the next
# mid-tones that stand out on white and on black, told apart by colour-blind readers; beyond eight they start again
COLOURS = ("#3d85c6", "#d9822b", "#2f9e77", "#c0579a", "#8474cf", "#c9a227", "#d1495b", "#5f9ea0")
MARKERS = "osD^vPX*"
GREY = "#888888"
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "aloll", "svg.fonttype": "none", "font.size": 11, "text.color": GREY, "axes.labelcolor": GREY,
    "xtick.color": GREY, "ytick.color": GREY, "axes.edgecolor": GREY, "axes.spines.top": False, "axes.spines.right": False,
    "axes.spines.left": False, "ytick.major.size": 0, "grid.color": GREY, "grid.alpha": 0.25, "grid.linewidth": 0.6,
    "axes.grid": True, "axes.grid.axis": "y", "axes.formatter.useoffset": False, "text.parse_math": False,
}  # fmt: skip
FIGURES = {  # what training logs, and how a reader knows it
    "loss": ("Training loss", "Variants weight their losses differently: compare shapes, not heights."),
    "kl": ("Distance to the reference", "½ (ln π − ln π_ref)² of the batch's tokens, summed over a response."),
    "ratio": ("Importance ratio", "Mean π / π_ref of a token; 1 where the policy is still the reference."),
    "clip_fraction": ("Clipped ratios", "Share of ratios that clipping changed."),
}  # fmt: skip

Drawn = tuple[Run, str, int]  # a run, its name, and the look that all runs of its kind share


@dataclass(frozen=True)
class Line:
    """One run's line in a plot."""

    name: str
    x: list[float]
    y: list[float]
    look: int


@dataclass(frozen=True)
class Plot:
    """A drawn figure with its heading and an explanation."""

    title: str
    note: str
    svg: Markup


def write_page(runs: list[Run], page: Path) -> None:
    """Write the page about one run or several, whole or not at all."""
    beside = page.with_name(f".{page.name}.tmp")
    beside.write_text(render(runs), encoding="utf-8")
    os.replace(beside, page)


def render(runs: list[Run]) -> str:
    """The page's HTML."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"number": _number, "visible": partial(visible, limit=SHOWN)}
    template = environment.from_string(resources.files("aloll_cli").joinpath("report.html").read_text("utf-8"))
    settings = settings_apart(runs)
    names = [" ".join(filter(None, [run.label, setting])) for run, setting in zip(runs, settings, strict=True)]
    kinds = [f"{run.variant} {setting}".strip() for run, setting in zip(runs, settings, strict=True)]
    looks = {kind: look for look, kind in enumerate(dict.fromkeys(kinds))}
    drawn = [(run, name, looks[kind]) for run, name, kind in zip(runs, names, kinds, strict=True)]
    return template.render(
        runs=runs,
        names=names,
        settings=settings,
        title=_title(runs),
        common=_common(runs),
        comparison=comparison(runs[0].metrics),
        by_subset=comparison_by_subset(runs[0].metrics),
        conclusions=conclusions(runs[0].metrics),
        columns=columns(runs),
        caveats=caveats(runs),
        gains=_gains(drawn) if len(runs) > 1 else None,
        plots=_plots(drawn),
        legend=[(kind, COLOURS[look % len(COLOURS)]) for kind, look in looks.items()] if len(looks) > 1 else [],
        answers=_answers(runs, kinds),
    )


def _title(runs: list[Run]) -> str:
    if len(runs) == 1:
        seed = runs[0].metrics["seed"]
        return f"{runs[0].variant} on {runs[0].metrics['task']}" + ("" if seed is None else f", seed {seed}")
    return f"{len(runs)} runs on " + ", ".join(dict.fromkeys(run.metrics["task"] for run in runs))


def _common(runs: list[Run]) -> dict[str, Any]:
    """What all runs have in common, of the facts worth a sentence; None where they differ."""
    keys = ("task", "split", "reward", "test_reward", "n")
    return {key: runs[0].metrics[key] if len({run.metrics[key] for run in runs}) == 1 else None for key in keys}


def _number(value: float, sign: str = "", like: float | None = None) -> str:
    """A number as it is printed: with a minus sign, not a hyphen."""
    return number(value, sign, like).replace("-", "−")


def _answers(runs: list[Run], kinds: list[str]) -> list[dict[str, Any]]:
    """Some prompts at even distances, with the reference's answer and that of the first run of each kind."""
    chosen = {kind: run for kind, run in reversed(list(zip(kinds, runs, strict=True)))}
    shown = {kind: {row["prompt"]: row for row in chosen[kind].answers} for kind in dict.fromkeys(kinds)}
    first, *others = shown.values()
    prompts = [prompt for prompt in first if all(prompt in rows for rows in others)]
    step = max(1, len(prompts) // ANSWERS)
    sides = {
        prompt: [("reference", first[prompt]["reference"]), *((kind, rows[prompt]["policy"]) for kind, rows in shown.items())]
        for prompt in prompts[::step][:ANSWERS]
    }
    return [{"prompt": ending(prompt, SHOWN), "sides": answers} for prompt, answers in sides.items()]


def _plots(runs: list[Drawn]) -> list[Plot]:
    """The learning curves that there are."""
    scores = " / ".join(dict.fromkeys(run.score for run, *_ in runs if run.evaluations))
    validation = [
        Line(name, [r["update"] for r in run.evaluations], [r["score"] for r in run.evaluations], look)
        for run, name, look in runs
        if run.evaluations
    ]
    plots = [_curves("Validation score", f"Mean {scores} on validation prompts, by update.", validation, MARKERS)]
    for key, (title, note) in FIGURES.items():
        lines = [_smoothed(name, run.updates, key, look) for run, name, look in runs if run.updates and key in run.updates[0]]
        plots.append(_curves(title, note, lines, ""))
    return [plot for plot in plots if plot]


def _smoothed(name: str, updates: list[dict[str, Any]], key: str, look: int) -> Line:
    """At most POINTS means of consecutive updates."""
    import numpy as np

    blocks = np.array_split(np.array([[r["update"], r[key]] for r in updates], dtype=float), min(POINTS, len(updates)))
    x, y = np.array([block.mean(axis=0) for block in blocks]).T.tolist()
    return Line(name, x, y, look)


def _curves(title: str, note: str, lines: list[Line], markers: str) -> Plot | None:
    """Lines over updates, or None where there are none."""
    if not lines:
        return None

    def draw(axes: Axes) -> None:
        for line in lines:
            marker = markers[line.look % len(markers)] if markers else ""
            colour = COLOURS[line.look % len(COLOURS)]
            axes.plot(line.x, line.y, color=colour, linewidth=1.4, alpha=0.9, marker=marker, markersize=4)
        axes.set_xlabel("update")
        axes.set_xlim(left=0)
        axes.locator_params(axis="x", integer=True)
        axes.margins(x=0.02)

    told = "; ".join(f"{line.name} from {number(line.y[0])} to {number(line.y[-1])}" for line in lines)
    return Plot(title, note, _svg(draw, 2.8, f"{title} by update: {told}."))


def _gains(runs: list[Drawn]) -> Plot | None:
    """Every run's gain with its interval on one scale."""
    found = [(name, run.metrics["gain"], COLOURS[look % len(COLOURS)]) for run, name, look in runs if run.metrics["gain"]]
    if not found:
        return None

    def draw(axes: Axes) -> None:
        for row, (_, gain, colour) in enumerate(found):
            axes.plot(gain["ci95"], [row, row], color=colour, linewidth=2.4, solid_capstyle="round")
            axes.plot(gain["mean"], row, "o", color=colour, markersize=6)
        axes.axvline(0, color=GREY, linewidth=1)
        axes.set_yticks(range(len(found)), [name for name, *_ in found])
        axes.set_ylim(len(found) - 0.4, -0.6)
        axes.grid(axis="y", visible=False)
        axes.grid(axis="x")

    told = "; ".join(f"{name} {number(gain['mean'], '+')}" for name, gain, _ in found)
    return Plot("Gain over the reference", "", _svg(draw, 0.7 + 0.28 * len(found), f"Gain over the reference: {told}."))


def _svg(draw: Callable[[Axes], None], height: float, told: str) -> Markup:
    """An inline SVG with transparent background, sized by its place; ``told`` is what a screen reader says."""
    import matplotlib as mpl
    from markupsafe import Markup
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.8, height), layout="constrained")
        draw(figure.add_subplot())
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    svg = file.getvalue()
    # the prologue, the metadata and the global style do not belong inside a page, and names would come twice
    for unwanted in (r"^.*?(?=<svg)", r"<metadata>.*?</metadata>", r"<defs>\s*<style.*?</defs>", r' id="[a-z]+_\d+"'):
        svg = re.sub(unwanted, "", svg, flags=re.DOTALL)
    opening = Markup('<svg role="img" aria-label="{}"').format(told)
    svg = re.sub(r'(?<=<svg)(.*?) (?:width|height)="[\d.]+pt"', r"\1", svg)
    return opening + Markup(svg.removeprefix("<svg")).replace(">", Markup("><title>{}</title>").format(told), 1)
