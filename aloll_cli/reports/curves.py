"""Curves over training steps: the validation score and what training logged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aloll_cli.comparison.runs import Run
from aloll_cli.reports.drawing import MARKERS, SIZE, Plot, colour, svg
from aloll_cli.reports.text import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

POINTS = 80  # at most, per training curve; each is the mean of consecutive training steps
APART = 10.0  # times the values of one method are larger than those of another: each has an axis of its own
PANELS = 6  # at most, in one figure
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
SCALED = ("loss", "kl", "kl_reference", "kl_per_token")  # whose scale depends on the method

Drawn = tuple[Run, str, int]  # a run, its name, and the index of its method, which sets colour and marker
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Line:
    """One run's curve in a plot, or that of one of its rounds."""

    name: str
    x: list[float]
    y: list[float]
    look: int


def curves(runs: Sequence[Drawn]) -> list[Plot]:
    """Plots of the validation score and of each logged quantity that a run has."""
    scores = " / ".join(dict.fromkeys(run.score for run, *_ in runs if run.evaluations))
    rounds = " Each round continues where the one before ended." if any(run.rounds for run, *_ in runs) else ""
    note = f"Mean {scores} on validation prompts by training step.{rounds}"
    plots = [_plot("score", "Validation score", note, [*_evaluated(runs, "score")], MARKERS)]
    for key, (title, note) in EVALUATED.items():
        plots.append(_plot(key, title, note, [*_evaluated(runs, key)], MARKERS))
    for key, (title, note) in FIGURES.items():
        plots.append(_plot(key, title, note, [*_trained(runs, key)], ""))
    return sorted((plot for plot in plots if plot), key=lambda plot: plot.is_tall)


def _rounds(run: Run, name: str) -> Iterator[tuple[str, int, Rows, Rows]]:
    """Name, step before the first, training steps and evaluations of each round."""
    every = [(one.updates, one.evaluations) for one in run.rounds] + [(run.updates, run.evaluations)]
    before = 0
    for place, (updates, evaluations) in enumerate(every, start=1):
        yield (name if len(every) == 1 else f"{name} round {place}"), before, updates, evaluations
        before += max((row["update"] for row in (*updates, *evaluations)), default=0)


def _evaluated(runs: Sequence[Drawn], key: str) -> Iterator[Line]:
    for run, name, look in runs:
        for called, before, _, evaluations in _rounds(run, name):
            if found := [row for row in evaluations if key in row]:
                yield Line(called, [before + row["update"] for row in found], [row[key] for row in found], look)


def _trained(runs: Sequence[Drawn], key: str) -> Iterator[Line]:
    """At most POINTS means of consecutive training steps, over those that logged the quantity."""
    import numpy as np

    for run, name, look in runs:
        for called, before, updates, _ in _rounds(run, name):
            if found := [[before + row["update"], row[key]] for row in updates if key in row]:
                blocks = np.array_split(np.array(found, dtype=float), min(POINTS, len(found)))
                x, y = np.array([block.mean(axis=0) for block in blocks]).T.tolist()
                yield Line(called, x, y, look)


def _plot(key: str, title: str, note: str, lines: list[Line], markers: str) -> Plot | None:
    """A plot of curves over training steps, or None if there are no curves."""
    if not lines:
        return None
    panels = _panels(key, lines)

    def draw(figure: Figure) -> None:
        places = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
        for axes, shown in zip(places, panels, strict=True):
            _draw(axes, shown, markers)
        places[-1].set_xlabel("training step")

    told = "; ".join(f"{line.name} from {number(line.y[0])} to {number(line.y[-1])}" for line in lines)
    inches = (SIZE[0], max(SIZE[1], 0.6 + 1.1 * len(panels)))
    if len(panels) > 1:
        note += " Scales differ, so each method has its own axis."
    return Plot(title, note, svg(draw, inches, f"{title} by training step: {told}."), len(panels) > 1)


def _panels(key: str, lines: list[Line]) -> list[list[Line]]:
    """The lines of one axis, or those of each method on its own where the methods' scales are far apart."""
    by_method: dict[int, list[Line]] = {}
    for line in lines:
        by_method.setdefault(line.look, []).append(line)
    sizes = [max(abs(y) for line in found for y in line.y) for found in by_method.values()]
    is_apart = key in SCALED and 1 < len(sizes) <= PANELS and max(sizes) > APART * min(sizes)
    return [*by_method.values()] if is_apart else [lines]


def _draw(axes: Axes, lines: list[Line], markers: str) -> None:
    for line in lines:
        marker = markers[line.look % len(markers)] if markers else ""
        axes.plot(line.x, line.y, color=colour(line.look), linewidth=1.4, alpha=0.9, marker=marker, markersize=4)
    axes.set_xlim(left=0)
    axes.locator_params(axis="x", integer=True)
    axes.margins(x=0.02)
