"""One HTML page about evaluated runs: self-contained, offline, and the same bytes for the same runs."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aloll_cli.comparison.differences import Comparison, Row
from aloll_cli.comparison.runs import Run
from aloll_cli.files import write_json, write_text
from aloll_cli.reports.comparison_columns import as_plain, caveats, columns, costs
from aloll_cli.reports.figures import comparison, comparison_by_subset, conclusions
from aloll_cli.reports.text import counted, ending, number, visible

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ANSWERS = 10  # prompts shown
SHOWN = 2000  # characters of a prompt's end and of a response
POINTS = 80  # of a training curve; each is the mean of the updates up to the next
# mid-tones that stand out on white and on black, told apart by colour-blind readers; beyond eight they start again
COLOURS = ("#3d85c6", "#d9822b", "#2f9e77", "#c0579a", "#8474cf", "#c9a227", "#d1495b", "#5f9ea0")
MARKERS = "osD^vPX*"
GREY = "#888888"
REM = 6.2  # of the page an inch of a figure, so that its text is as large as the page's
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "aloll", "svg.fonttype": "none", "font.size": 11, "text.color": GREY, "axes.labelcolor": GREY,
    "xtick.color": GREY, "ytick.color": GREY, "axes.edgecolor": GREY, "axes.spines.top": False, "axes.spines.right": False,
    "axes.spines.left": False, "ytick.major.size": 0, "grid.color": GREY, "grid.alpha": 0.25, "grid.linewidth": 0.6,
    "axes.grid": True, "axes.grid.axis": "y", "axes.formatter.useoffset": False, "text.parse_math": False,
}  # fmt: skip
GAINS = {"gain": "gain in reward", "held_out_gain": "held-out gain"}  # what is drawn of methods
FIGURES = {  # what training logs, and how a reader knows it
    "loss": ("Training loss", "Variants weight their losses differently: compare shapes, not heights."),
    "kl": ("Distance to the reference", "½ (ln π − ln π_ref)² of the batch's tokens, summed over a response."),
    "ratio": ("Importance ratio", "Mean π / π_ref of a token; 1 where the policy is still the reference."),
    "clip_fraction": ("Clipped ratios", "Share of ratios that clipping changed."),
    "pair_accuracy": ("Pairs in order", "Share of a prompt's pairs of responses that the variant ranks by their rewards."),
    "sampled_reward": ("Reward while it trains", "Mean reward of each rollout's responses."),
    "kl_reference": ("Rollouts' distance to the reference", "Mean ln π − ln π_ref of its responses, in nats a response."),
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
    """A drawn figure with its heading, an explanation, and how wide it may become where it stands alone."""

    title: str
    note: str
    svg: Markup
    rem: float | None = None


def write_page(found: Comparison, page: Path) -> None:
    """Write the page about one run or several, whole or not at all; about several, their comparison as JSON beside it."""
    text = render(found)
    page.parent.mkdir(parents=True, exist_ok=True)
    write_text(page, text)
    if not found.is_single:
        write_json(page.with_suffix(".json"), as_plain(found))


def render(found: Comparison) -> str:
    """The page's HTML."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"number": _number, "counted": counted, "visible": partial(visible, limit=SHOWN)}
    template = environment.from_string(resources.files("aloll_cli.reports").joinpath("report.html").read_text("utf-8"))
    runs = found.runs
    drawn = [
        (run, f"{run.label} {method.setting}".strip(), look) for look, method in enumerate(found.methods) for run in method.runs
    ]
    return template.render(
        runs=runs,
        names=[name for _, name, _ in drawn],
        methods=found.methods,
        title=_title(found),
        single=found.is_single,
        common=_common(runs),
        comparison=comparison(runs[0].metrics),
        by_subset=comparison_by_subset(runs[0].metrics),
        conclusions=conclusions(runs[0].metrics),
        columns=[*columns(found), *costs(found)],
        caveats=caveats(found),
        gains=None if found.is_single else _gains(found.rows),
        plots=_plots(drawn),
        legend=[(method.name, _colour(look)) for look, method in enumerate(found.methods)] if len(found.rows) > 1 else [],
        answers=_answers(found),
    )


def _title(found: Comparison) -> str:
    run = found.runs[0]
    if found.is_single:
        return f"{run.variant} on {run.metrics['task']}" + ("" if run.seed is None else f", seed {run.seed}")
    return f"{found.counted} on " + ", ".join(dict.fromkeys(run.metrics["task"] for run in found.runs))


def _common(runs: list[Run]) -> dict[str, Any]:
    """What all runs have in common, of the facts worth a sentence; None where they differ."""
    keys = ("task", "split", "reward", "test_reward", "n")
    return {key: runs[0].metrics[key] if len({run.metrics[key] for run in runs}) == 1 else None for key in keys}


def _number(value: float, sign: str = "", like: float | None = None) -> str:
    """A number as it is printed: with a minus sign, not a hyphen."""
    return number(value, sign, like).replace("-", "−")


def _answers(found: Comparison) -> list[dict[str, Any]]:
    """Some prompts at even distances, with the reference's answer and that of the first run of each method."""
    shown = {method.name: {row["prompt"]: row for row in method.runs[0].answers} for method in found.methods}
    first, *others = shown.values()
    prompts = [prompt for prompt in first if all(prompt in rows for rows in others)]
    step = max(1, len(prompts) // ANSWERS)
    sides = {
        prompt: [("reference", first[prompt]["reference"]), *((name, rows[prompt]["policy"]) for name, rows in shown.items())]
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
        lines = [_smoothed(name, run.updates, key, look) for run, name, look in runs if any(key in r for r in run.updates)]
        plots.append(_curves(title, note, lines, ""))
    return [plot for plot in plots if plot]


def _smoothed(name: str, updates: list[dict[str, Any]], key: str, look: int) -> Line:
    """At most POINTS means of consecutive updates, of those that logged the figure."""
    import numpy as np

    logged = np.array([[r["update"], r[key]] for r in updates if key in r], dtype=float)
    blocks = np.array_split(logged, min(POINTS, len(logged)))
    x, y = np.array([block.mean(axis=0) for block in blocks]).T.tolist()
    return Line(name, x, y, look)


def _curves(title: str, note: str, lines: list[Line], markers: str) -> Plot | None:
    """Lines over updates, or None where there are none."""
    if not lines:
        return None

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for line in lines:
            marker = markers[line.look % len(markers)] if markers else ""
            axes.plot(line.x, line.y, color=_colour(line.look), linewidth=1.4, alpha=0.9, marker=marker, markersize=4)
        axes.set_xlabel("update")
        axes.set_xlim(left=0)
        axes.locator_params(axis="x", integer=True)
        axes.margins(x=0.02)

    told = "; ".join(f"{line.name} from {number(line.y[0])} to {number(line.y[-1])}" for line in lines)
    return Plot(title, note, _svg(draw, (4.8, 2.8), f"{title} by update: {told}."))


def _colour(look: int) -> str:
    return COLOURS[look % len(COLOURS)]


def _gains(rows: list[Row]) -> Plot | None:
    """Every method's gain on one scale: its mean with the interval, and each seed's own mean beneath."""
    panels = {title: name for name, title in GAINS.items() if any(name in row.estimates for row in rows)}
    if not panels:
        return None

    def draw(figure: Figure) -> None:
        places = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axes, (title, name) in zip(places, panels.items(), strict=True):
            for place, row in enumerate(rows):
                if name in row.estimates:
                    _draw_estimate(axes, place, row.estimates[name], _colour(place))
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
    return Plot("Gain over the reference", "", _svg(draw, inches, f"Gain over the reference: {told}."), REM * inches[0])


def _draw_estimate(axes: Axes, place: int, estimate: dict[str, Any], colour: str) -> None:
    axes.plot(estimate["ci95"], [place, place], color=colour, linewidth=2.4, solid_capstyle="round")
    axes.plot(estimate["mean"], place, "o", color=colour, markersize=6)
    if len(estimate["by_seed"]) > 1:
        beneath = [place + 0.28] * len(estimate["by_seed"])
        axes.plot(estimate["by_seed"], beneath, "o", color=colour, markersize=3.5, fillstyle="none", linewidth=0)


def _svg(draw: Callable[[Figure], None], inches: tuple[float, float], told: str) -> Markup:
    """An inline SVG with transparent background, sized by its place; ``told`` is what a screen reader says."""
    import matplotlib as mpl
    from markupsafe import Markup
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=inches, layout="constrained")
        draw(figure)
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    svg = file.getvalue()
    # the prologue, the metadata and the global style do not belong inside a page, and names would come twice
    for unwanted in (r"^.*?(?=<svg)", r"<metadata>.*?</metadata>", r"<defs>\s*<style.*?</defs>", r' id="[a-z]+_\d+"'):
        svg = re.sub(unwanted, "", svg, flags=re.DOTALL)
    opening = Markup('<svg role="img" aria-label="{}"').format(told)
    svg = re.sub(r'(?<=<svg)(.*?) (?:width|height)="[\d.]+pt"', r"\1", svg)
    return opening + Markup(svg.removeprefix("<svg")).replace(">", Markup("><title>{}</title>").format(told), 1)
