"""One HTML page about evaluated runs: self-contained, works offline, the same bytes for the same runs."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aloll_cli.comparison.differences import Comparison, Row
from aloll_cli.comparison.judged import judgements_of
from aloll_cli.comparison.runs import Run
from aloll_cli.files import write_json, write_text
from aloll_cli.reports.comparison_columns import as_plain, caveats, columns, costs
from aloll_cli.reports.figures import comparison, comparison_by_subset, conclusions, too_few
from aloll_cli.reports.judged import sentences
from aloll_cli.reports.text import counted, ending, number
from aloll_cli.store.marker import refuse_links
from aloll_cli.visible import visible

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PROMPTS = 10  # prompts whose responses are shown
SHOWN = 2000  # characters shown of the end of a prompt and of the beginning of a response
POINTS = 80  # at most, per training curve; each is the mean of consecutive training steps
# mid-tones with contrast on white and on black, safe for colour-blind readers; after eight they repeat
COLOURS = ("#3d85c6", "#d9822b", "#2f9e77", "#c0579a", "#8474cf", "#c9a227", "#d1495b", "#5f9ea0")
MARKERS = "osD^vPX*"
GREY = "#888888"
REM = 6.2  # per inch of a figure, so that its text has the size of the page's text
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "aloll", "svg.fonttype": "none", "font.size": 11, "text.color": GREY, "axes.labelcolor": GREY,
    "xtick.color": GREY, "ytick.color": GREY, "axes.edgecolor": GREY, "axes.spines.top": False, "axes.spines.right": False,
    "axes.spines.left": False, "ytick.major.size": 0, "grid.color": GREY, "grid.alpha": 0.25, "grid.linewidth": 0.6,
    "axes.grid": True, "axes.grid.axis": "y", "axes.formatter.useoffset": False, "text.parse_math": False,
}  # fmt: skip
GAINS = {"gain": "reward gain", "held_out_gain": "held-out reward gain"}  # estimate: axis label
EVALUATED = {  # key of a figure of evaluations during training: title and explanation of its plot
    "kl_per_token": ("Validation KL to the reference", "Mean ln π − ln π_ref of the policy's own responses, in nats per token."),
    "repeated": (
        "Repeated responses",
        "Share of the policy's responses to validation prompts that are the same as to another one.",
    ),
}
FIGURES = {  # key of a logged quantity: title and explanation of its plot
    "loss": ("Training loss", "Variants weight the loss differently: compare the shapes of curves, not their levels."),
    "kl": ("Distance to the reference", "½ (ln π − ln π_ref)² on the batch's tokens, summed over each response."),
    "ratio": ("Importance ratio", "Mean π / π_ref per token; 1 means that the policy equals the reference policy."),
    "clip_fraction": ("Clipped ratios", "Share of the importance ratios that were clipped."),
    "pair_accuracy": ("Pair accuracy", "Share of a prompt's response pairs that are ranked in the order of their rewards."),
    "sampled_reward": ("Rollout reward", "Mean reward of the responses of each rollout."),
    "kl_reference": ("Rollout KL to the reference", "Mean ln π − ln π_ref of each rollout's responses, in nats per response."),
}  # fmt: skip

Drawn = tuple[Run, str, int]  # a run, its name, and the index of its method, which sets colour and marker


@dataclass(frozen=True)
class Line:
    """One run's curve in a plot."""

    name: str
    x: list[float]
    y: list[float]
    look: int


@dataclass(frozen=True)
class Plot:
    """A drawn figure with its title and explanation, and its maximum width in rem if it is not part of the grid."""

    title: str
    note: str
    svg: Markup
    rem: float | None = None


def write_page(found: Comparison, page: Path) -> None:
    """Write the page about one or more runs atomically; for several runs, also their comparison as JSON, ``page.json``."""
    text = render(found)
    refuse_links(page.parent.parent, page.parent)
    page.parent.mkdir(parents=True, exist_ok=True)
    write_text(page, text, durably=True)
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
        conclusions=[*sentences(judgements_of(runs)), *conclusions(runs[0].metrics)],
        too_few=too_few(runs[0].metrics),
        columns=[*columns(found), *costs(found)],
        caveats=caveats(found, costs(found)),
        gains=None if found.is_single else _gains(found.rows),
        plots=_plots(drawn),
        legend=[(method.name, _colour(look)) for look, method in enumerate(found.methods)] if len(found.rows) > 1 else [],
        responses=_responses(found),
    )


def _title(found: Comparison) -> str:
    run = found.runs[0]
    if found.is_single:
        return f"{run.variant} on {run.metrics['task']}" + ("" if run.seed is None else f", seed {run.seed}")
    return f"{found.counted} on " + ", ".join(dict.fromkeys(run.metrics["task"] for run in found.runs))


def _common(runs: list[Run]) -> dict[str, Any]:
    """Task, split, rewards and number of prompts, for the page's header; None where runs differ."""
    keys = ("task", "split", "reward", "test_reward", "n")
    return {key: runs[0].metrics[key] if len({run.metrics[key] for run in runs}) == 1 else None for key in keys}


def _number(value: float, sign: str = "", like: float | None = None) -> str:
    """A number with a minus sign instead of a hyphen."""
    return number(value, sign, like).replace("-", "−")


def _responses(found: Comparison) -> list[dict[str, Any]]:
    """Evenly spaced prompts, with the response of the reference and of the first run of each method."""
    by_method = {method.name: {row["prompt"]: row for row in method.runs[0].responses} for method in found.methods}
    first, *others = by_method.values()
    prompts = [prompt for prompt in first if all(prompt in rows for rows in others)]
    step = max(1, len(prompts) // PROMPTS)
    sides = {
        prompt: [("reference", first[prompt]["reference"]), *((name, rows[prompt]["policy"]) for name, rows in by_method.items())]
        for prompt in prompts[::step][:PROMPTS]
    }
    return [{"prompt": ending(prompt, SHOWN), "sides": shown} for prompt, shown in sides.items()]


def _plots(runs: list[Drawn]) -> list[Plot]:
    """Plots of the validation score and of each logged quantity that a run has."""
    scores = " / ".join(dict.fromkeys(run.score for run, *_ in runs if run.evaluations))
    validation = [
        Line(name, [r["update"] for r in run.evaluations], [r["score"] for r in run.evaluations], look)
        for run, name, look in runs
        if run.evaluations
    ]
    plots = [_curves("Validation score", f"Mean {scores} on validation prompts by training step.", validation, MARKERS)]
    for key, (title, note) in EVALUATED.items():
        lines = [
            Line(name, [r["update"] for r in records], [r[key] for r in records], look)
            for run, name, look in runs
            if (records := [r for r in run.evaluations if key in r])
        ]
        plots.append(_curves(title, note, lines, MARKERS))
    for key, (title, note) in FIGURES.items():
        lines = [_smoothed(name, run.updates, key, look) for run, name, look in runs if any(key in r for r in run.updates)]
        plots.append(_curves(title, note, lines, ""))
    return [plot for plot in plots if plot]


def _smoothed(name: str, updates: list[dict[str, Any]], key: str, look: int) -> Line:
    """At most POINTS means of consecutive training steps, over those that logged the quantity."""
    import numpy as np

    logged = np.array([[r["update"], r[key]] for r in updates if key in r], dtype=float)
    blocks = np.array_split(logged, min(POINTS, len(logged)))
    x, y = np.array([block.mean(axis=0) for block in blocks]).T.tolist()
    return Line(name, x, y, look)


def _curves(title: str, note: str, lines: list[Line], markers: str) -> Plot | None:
    """A plot of curves over training steps, or None if there are no curves."""
    if not lines:
        return None

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for line in lines:
            marker = markers[line.look % len(markers)] if markers else ""
            axes.plot(line.x, line.y, color=_colour(line.look), linewidth=1.4, alpha=0.9, marker=marker, markersize=4)
        axes.set_xlabel("training step")
        axes.set_xlim(left=0)
        axes.locator_params(axis="x", integer=True)
        axes.margins(x=0.02)

    told = "; ".join(f"{line.name} from {number(line.y[0])} to {number(line.y[-1])}" for line in lines)
    return Plot(title, note, _svg(draw, (4.8, 2.8), f"{title} by training step: {told}."))


def _colour(look: int) -> str:
    return COLOURS[look % len(COLOURS)]


def _gains(rows: list[Row]) -> Plot | None:
    """A plot of every method's gain: the mean with its interval, and the mean of each seed below."""
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
    if estimate["ci95"] is not None:
        axes.plot(estimate["ci95"], [place, place], color=colour, linewidth=2.4, solid_capstyle="round")
    axes.plot(estimate["mean"], place, "o", color=colour, markersize=6)
    if len(estimate["by_seed"]) > 1:
        beneath = [place + 0.28] * len(estimate["by_seed"])
        axes.plot(estimate["by_seed"], beneath, "o", color=colour, markersize=3.5, fillstyle="none", linewidth=0)


def _use_own_style() -> None:
    """Keep matplotlib from reading a matplotlibrc in the current folder, which may be anybody's."""
    spec = find_spec("matplotlib")
    if spec is not None and spec.submodule_search_locations:
        os.environ.setdefault("MATPLOTLIBRC", str(Path(spec.submodule_search_locations[0], "mpl-data", "matplotlibrc")))


def _svg(draw: Callable[[Figure], None], inches: tuple[float, float], told: str) -> Markup:
    """An inline SVG with transparent background that fills its container; ``told`` is the text for screen readers."""
    _use_own_style()
    import matplotlib as mpl
    from markupsafe import Markup
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=inches, layout="constrained")
        draw(figure)
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    svg = file.getvalue()
    # a page cannot hold the prologue, the metadata and a global style, and ids of several figures would collide
    for unwanted in (r"^.*?(?=<svg)", r"<metadata>.*?</metadata>", r"<defs>\s*<style.*?</defs>", r' id="[a-z]+_\d+"'):
        svg = re.sub(unwanted, "", svg, flags=re.DOTALL)
    opening = Markup('<svg role="img" aria-label="{}"').format(told)
    svg = re.sub(r'(?<=<svg)(.*?) (?:width|height)="[\d.]+pt"', r"\1", svg)
    return opening + Markup(svg.removeprefix("<svg")).replace(">", Markup("><title>{}</title>").format(told), 1)
