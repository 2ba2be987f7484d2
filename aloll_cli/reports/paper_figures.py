"""Figures for a paper about evaluated runs: which there are, and the numbers behind each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aloll_cli.comparison.differences import Comparison, Row
from aloll_cli.comparison.grouping import Method
from aloll_cli.comparison.runs import Run
from aloll_cli.reports.paper_style import GREY, Series, legend_of, shortened
from aloll_cli.reports.text import interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

POINTS = 60  # at most, per training curve; each is the mean of consecutive training steps
BINS = 20
HEIGHT = 2.1  # inches
ROW = 0.3  # inches that a method takes among the gains
Numbers = list[dict[str, Any]]

CURVES = {  # quantity that training logs: file and label of the axis
    "loss": ("training-loss", "training loss"),
    "kl": ("training-kl", "½ (ln π − ln π_ref)² of a response"),
    "ratio": ("importance-ratio", "π / π_ref per token"),
    "clip_fraction": ("clipped-ratios", "share of clipped ratios"),
    "pair_accuracy": ("pair-accuracy", "pair accuracy"),
    "sampled_reward": ("rollout-reward", "mean reward of a rollout"),
    "kl_reference": ("rollout-kl", "KL of a rollout (nats per response)"),
}
EVALUATED = {  # quantity of evaluations during training
    "score": ("validation-score", "validation"),
    "kl_per_token": ("validation-kl", "validation KL (nats per token)"),
    "repeated": ("validation-repeated", "share of repeated responses"),
}
GAINS = {"gain": ("gain", "reward gain"), "held_out_gain": ("held-out-gain", "held-out reward gain")}
REWARDS = {"reward": ("rewards", "reward"), "test_reward": ("held-out-rewards", "held-out reward")}


@dataclass(frozen=True)
class PaperFigure:
    """A figure of a column's width.

    Attributes:
        name: of its files, without a suffix.
        caption: what it shows.
        rows: the numbers that are drawn.
        draw: draws them.
        height: in inches.
        legend: what its colours and markers mean; empty where one is not needed.
    """

    name: str
    caption: str
    rows: Numbers
    draw: Callable[[Axes], None]
    height: float = HEIGHT
    legend: tuple[Series, ...] = ()


def figures_of(found: Comparison) -> list[PaperFigure]:
    """The figures that there are numbers for: gains, reward distributions, reward against KL, and training curves."""
    series = legend_of(found.methods)
    drawn = [(look, method, run) for look, method in zip(series, found.methods, strict=True) for run in method.runs]
    figures: list[PaperFigure | None] = [_gains(found.rows, series, key) for key in GAINS]
    figures += [_rewards(found.methods, series, role) for role in REWARDS]
    figures += [_against_kl(drawn, series), _validation_against_kl(drawn, series)]
    for key, (name, label) in EVALUATED.items():
        scores = " / ".join(dict.fromkeys(run.score for *_, run in drawn if run.evaluations))
        label = f"{label} {scores}" if key == "score" else label
        figures.append(_curves(name, label, [(look, run, _points(run.evaluations, key)) for look, _, run in drawn], series, True))
    for key, (name, label) in CURVES.items():
        lines = [(look, run, _smoothed(_points(run.updates, key))) for look, _, run in drawn]
        figures.append(_curves(name, label, lines, series, False))
    return [figure for figure in figures if figure]


def _gains(rows: Sequence[Row], series: Sequence[Series], key: str) -> PaperFigure | None:
    name, label = GAINS[key]
    there = [(look, row.method.name, row.estimates[key]) for look, row in zip(series, rows, strict=True) if key in row.estimates]
    if not there:
        return None
    numbers = [
        {"method": method, key: found["mean"], "low": low, "high": high, "prompts": found["prompts"]}
        for _, method, found in there
        for low, high in [found["ci95"] or (None, None)]
    ]

    def draw(axes: Axes) -> None:
        for place, (look, _, found) in enumerate(there):
            if found["ci95"] is not None:
                axes.plot(found["ci95"], [place, place], color=look.colour, linewidth=1.6, solid_capstyle="butt")
            axes.plot(found["mean"], place, marker=look.marker, color=look.colour)
        axes.axvline(0, color=GREY, linewidth=0.6)
        axes.set_yticks(range(len(there)), [shortened(method) for _, method, _ in there])
        axes.set_ylim(len(there) - 0.5, -0.5)
        axes.set_xlabel(label)

    told = "; ".join(f"{method} {interval(found, '+')}" for _, method, found in there)
    caption = f"Mean {label} over the reference with its 95% confidence interval: {told}."
    return PaperFigure(name, caption, numbers, draw, 0.55 + ROW * len(there))


def _rewards(methods: Sequence[Method], series: Sequence[Series], role: str) -> PaperFigure | None:
    """Histograms of one reward: of the reference's responses, and of each method's, over its seeds."""
    import numpy as np

    name, label = REWARDS[role]
    every = [run for method in methods for run in method.runs]
    sides = {"reference": _scores(every, "reference", role)}
    sides |= {method.name: _scores(method.runs, "policy", role) for method in methods}
    looks = {"reference": Series("reference", GREY, "", "-"), **{look.name: look for look in series}}
    sides = {side: values for side, values in sides.items() if values}
    if not sides:
        return None
    edges = np.histogram_bin_edges(np.concatenate([*sides.values()]), BINS)
    shares = {side: (np.histogram(values, edges)[0] / len(values)).tolist() for side, values in sides.items()}
    numbers = [
        {"side": side, "low": low, "high": high, "share": share, "responses": len(sides[side])}
        for side, of_side in shares.items()
        for low, high, share in zip(edges[:-1].tolist(), edges[1:].tolist(), of_side, strict=True)
    ]

    def draw(axes: Axes) -> None:
        for side, of_side in shares.items():
            look, fills = looks[side], side == "reference"
            style = {"alpha": 0.35, "fill": True} if fills else {"linestyle": look.line, "linewidth": 1.2}
            axes.stairs(of_side, edges, color=look.colour, **style)  # type: ignore[arg-type]
        axes.set_xlabel(label)
        axes.set_ylabel("share of responses")

    caption = f"Distribution of the {label} of generated responses, in {BINS} bins."
    return PaperFigure(name, caption, numbers, draw, legend=tuple(looks[side] for side in sides))


def _scores(runs: Sequence[Run], side: str, role: str) -> list[float]:
    return [row[side][role] for run in runs for row in run.responses if role in row[side]]


Drawn = tuple[Series, Method, Run]


def _against_kl(drawn: Sequence[Drawn], series: Sequence[Series]) -> PaperFigure | None:
    """Each policy's reward and how far it is from the reference; the references lie at 0."""
    there = [
        (look, method, run, run.metrics["policy"]["reward"], _mean(run.metrics["policy"]["kl_per_token"]))
        for look, method, run in drawn
        if "reward" in run.metrics["policy"] and run.metrics["policy"].get("kl_per_token") is not None
    ]
    if not there:
        return None
    numbers = [
        {"method": method.name, "seed": run.seed, "kl_per_token": kl, "reward": reward["mean"], "low": low, "high": high}
        for _, method, run, reward, kl in there
        for low, high in [reward["ci95"] or (None, None)]
    ]
    references = list(dict.fromkeys(run.metrics["reference"]["reward"]["mean"] for _, _, run, _, _ in there))
    numbers += [{"method": "reference", "seed": None, "kl_per_token": 0.0, "reward": mean} for mean in references]

    def draw(axes: Axes) -> None:
        for mean in references:
            axes.axhline(mean, color=GREY, linewidth=0.6)
            axes.plot(0, mean, marker="o", color=GREY)
        for look, _, _, reward, kl in there:
            if reward["ci95"] is not None:
                axes.plot([kl, kl], reward["ci95"], color=look.colour, linewidth=0.8)
            axes.plot(kl, reward["mean"], marker=look.marker, color=look.colour)
        axes.set_xlabel("KL to the reference (nats per token)")
        axes.set_ylabel("reward")

    caption = "Mean reward against the mean of ln π − ln π_ref per token, of each run's own responses; grey: the reference."
    return PaperFigure("reward-against-kl", caption, numbers, draw, legend=_apart(series))


def _validation_against_kl(drawn: Sequence[Drawn], series: Sequence[Series]) -> PaperFigure | None:
    """The path of each run's checkpoints."""
    there = [
        (look, method, run, [record for record in run.evaluations if record.get("kl_per_token") is not None])
        for look, method, run in drawn
    ]
    there = [found for found in there if found[-1]]
    if not there:
        return None
    score = " / ".join(dict.fromkeys(run.score for _, _, run, _ in there))
    numbers = [
        {"method": method.name, "seed": run.seed, "step": r["update"], "kl_per_token": r["kl_per_token"], "score": r["score"]}
        for _, method, run, records in there
        for r in records
    ]

    def draw(axes: Axes) -> None:
        for look, _, _, records in there:
            x, y = [record["kl_per_token"] for record in records], [record["score"] for record in records]
            axes.plot(x, y, color=look.colour, marker=look.marker, linestyle=look.line, linewidth=0.8, markersize=3)
        axes.set_xlabel("validation KL (nats per token)")
        axes.set_ylabel(f"validation {score}")

    caption = "The checkpoints of each run on validation prompts, in the order of training."
    return PaperFigure("validation-against-kl", caption, numbers, draw, legend=_apart(series))


Points = list[tuple[float, float]]


def _points(records: Iterable[dict[str, Any]], key: str) -> Points:
    return [(record["update"], record[key]) for record in records if record.get(key) is not None]


def _smoothed(points: Points) -> Points:
    """At most POINTS means of consecutive training steps."""
    import numpy as np

    blocks = np.array_split(np.array(points, dtype=float), min(POINTS, len(points))) if points else []
    return [(float(x), float(y)) for x, y in (block.mean(axis=0) for block in blocks)]


def _curves(
    name: str, label: str, lines: Sequence[tuple[Series, Run, Points]], series: Sequence[Series], marks: bool
) -> PaperFigure | None:
    """A quantity by training step, a line per run; seeds of a method look alike."""
    lines = [line for line in lines if line[-1]]
    if not lines:
        return None
    numbers = [{"method": look.name, "seed": run.seed, "step": x, "value": y} for look, run, points in lines for x, y in points]

    def draw(axes: Axes) -> None:
        for look, _, points in lines:
            marker = look.marker if marks else ""
            x, y = zip(*points, strict=True)
            axes.plot(x, y, color=look.colour, linestyle=look.line, marker=marker, markersize=3, linewidth=1)
        axes.set_xlabel("training step")
        axes.set_ylabel(label)
        axes.margins(x=0.03)
        axes.locator_params(axis="x", integer=True)

    return PaperFigure(
        name, f"{label[0].upper()}{label[1:]} by training step, a line per run.", numbers, draw, legend=_apart(series)
    )


def _apart(series: Sequence[Series]) -> tuple[Series, ...]:
    """A legend, where there is more than one method."""
    return tuple(series) if len(series) > 1 else ()


def _mean(figure: Any) -> float:
    return float(figure["mean"] if isinstance(figure, dict) else figure)
