"""Figures of rewards: their distribution on both sides, wins and losses by prompt, reward against length, A and V."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from aloll_cli.comparison.differences import Comparison
from aloll_cli.comparison.logged import training_signals
from aloll_cli.comparison.runs import Run
from aloll_cli.metrics.text import lengths
from aloll_cli.metrics.words import TOKENIZERS, TextTokenizer
from aloll_cli.reports.drawing import GREY, SIZE, Plot, colour, svg
from aloll_cli.reports.text import number
from aloll_cli.reports.wins import wins

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from aloll_cli.arrays import FloatArray

BINS = 40
POINTS = 400  # at most, of each side in a scatter plot: evenly spaced responses
DECILES = 10
OUTLINES = 3  # histograms in one plot
ROLES = {"reward": "reward", "test_reward": "held-out reward"}

Shown = tuple[str, str, Any]  # name, colour, values


def distributions(found: Comparison) -> list[Plot]:
    """All figures of rewards that the runs have; of methods with several seeds, of the first run."""
    firsts = [(method.runs[0], method.name, colour(look)) for look, method in enumerate(found.methods)]
    plots = [_rewards(firsts, role) for role in ROLES]
    plots += [_wins(firsts), _gains(firsts), _against_length(firsts), *_signals(firsts)]
    return [plot for plot in plots if plot]


def _rewards(runs: Sequence[tuple[Run, str, str]], role: str) -> Plot | None:
    """Histograms of the rewards of the reference's responses and of each policy's."""
    scored = [one for one in runs if role in one[0].responses[0]["policy"]]
    if not scored:
        return None
    reference = ("reference", GREY, _values(scored[0][0], role, "reference"))
    shown = [reference, *((name, shade, _values(run, role, "policy")) for run, name, shade in scored)]
    title = f"Distribution of the {ROLES[role]}"
    label = ", ".join(dict.fromkeys(str(run.metrics[role]) for run, *_ in scored))
    return _histogram(title, f"Share of the responses by {ROLES[role]} ({label}), reference in grey.", ROLES[role], shown)


def _signals(runs: Sequence[tuple[Run, str, str]]) -> list[Plot | None]:
    """Histograms of V and of A = R − V of the training responses; methods that share them have one curve."""
    found: dict[bytes, tuple[str, str, FloatArray, FloatArray]] = {}
    for run, name, shade in runs:
        if signals := training_signals(run):
            rewards, values = signals
            found.setdefault(rewards.tobytes() + values.tobytes(), (name, shade, rewards - values, values))
    if not found:
        return []
    of = f"the {len(next(iter(found.values()))[2]):,} training responses" if len(found) == 1 else "the training responses"
    kept = ", ".join(f"{(advantages > 0).mean():.1%}" for _, _, advantages, _ in found.values())
    valued = [(name, shade, values) for name, shade, _, values in found.values()]
    advantaged = [(name, shade, advantages) for name, shade, advantages, _ in found.values()]
    return [
        _histogram("Values V", f"V(x) of the prompts of {of}: the reward that the reference is expected to get.", "V", valued),
        _histogram("Advantages A", f"A = R − V of {of}; {kept} are above 0.", "A", advantaged, zero=True),
    ]


def _gains(runs: Sequence[tuple[Run, str, str]]) -> Plot | None:
    """Histograms of the gain by prompt."""
    shown = [(name, shade, gains) for run, name, shade in runs if len(gains := gains_by_prompt(run))]
    if not shown:
        return None
    note = "Reward of the policy's responses to a prompt minus the reference's."
    return _histogram("Gain by prompt", note, "gain", shown, zero=True, things="prompts")


def gains_by_prompt(run: Run) -> FloatArray:
    """(G,) mean gain of each prompt; (0,) without a scorer."""
    return run.by_prompt(run.prompts, "reward") - run.by_prompt(run.prompts, "reward", "reference")


def _wins(runs: Sequence[tuple[Run, str, str]]) -> Plot | None:
    """A bar for each method: how often the policy's responses get more, the same, or less than the reference's."""
    counts = [(name, wins(gains), shade) for run, name, shade in runs if len(gains := gains_by_prompt(run))]
    if not counts:
        return None

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for place, (_, count, shade) in enumerate(counts):
            left = 0.0
            for share, opacity in zip(count.shares, (0.95, 0.5, 0.22), strict=True):
                axes.barh(place, share, left=left, height=0.62, color=shade, alpha=opacity, linewidth=0)
                left += share
        axes.set_yticks(range(len(counts)), [name for name, *_ in counts] if len(counts) > 1 else [""])
        axes.set_ylim(len(counts) - 0.5, -0.5)
        axes.set_xlim(0, 1)
        axes.set_xlabel("share of the prompts")
        axes.grid(axis="y", visible=False)

    told = "; ".join(f"{name}: {count}" for name, count, _ in counts) if len(counts) > 1 else str(counts[0][1]).capitalize()
    inches = (SIZE[0], max(1.5, 0.9 + 0.36 * len(counts)))
    single = f" {told}." if len(counts) == 1 else " From left to right: wins, ties, losses."
    note = f"Prompts on which the policy gets a higher, an equal or a lower reward.{single}"
    return Plot("Wins, ties and losses by prompt", note, svg(draw, inches, f"Wins, ties and losses by prompt: {told}."))


def _against_length(runs: Sequence[tuple[Run, str, str]]) -> Plot | None:
    """Mean reward by length of the response, in tenths of each side's responses; of a single run also single responses."""
    scored = [one for one in runs if "reward" in one[0].responses[0]["policy"]]
    if not scored:
        return None
    sides = [(scored[0][0], "reference", "reference", GREY), *((run, name, "policy", shade) for run, name, shade in scored)]
    points = [(_lengths(run, side), _values(run, "reward", side), shade) for run, _, side, shade in sides]

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for length, reward, shade in points:
            if len(scored) == 1:
                some = slice(None, None, max(1, -(-len(length) // POINTS)))
                axes.plot(length[some], reward[some], "o", color=shade, markersize=3, alpha=0.35, markeredgewidth=0)
            axes.plot(*_by_tenths(length, reward), color=shade, linewidth=2, marker="o", markersize=4)
        axes.set_xlabel(f"length ({_tokenizer(scored[0][0]).unit})")
        axes.set_ylabel("reward")

    told = "; ".join(
        f"{name} from {number(y[0])} for the shortest to {number(y[-1])} for the longest tenth"
        for (_, name, *_), (length, reward, _) in zip(sides, points, strict=True)
        for y in (_by_tenths(length, reward)[1],)
    )
    single = f", and up to {POINTS} single responses of each side" if len(scored) == 1 else ""
    note = f"Mean reward of each tenth of a side's responses by their length{single}; reference in grey."
    return Plot("Reward against length", note, svg(draw, SIZE, f"Reward against length: {told}."))


def _by_tenths(length: FloatArray, reward: FloatArray) -> tuple[list[float], list[float]]:
    """Mean length and mean reward of each tenth of the responses, from the shortest on."""
    tenths = np.array_split(np.argsort(length, kind="stable"), min(DECILES, len(length)))
    return [float(length[rows].mean()) for rows in tenths], [float(reward[rows].mean()) for rows in tenths]


def _tokenizer(run: Run) -> TextTokenizer:
    """What the metrics count as a word; characters where that would need a library that may not be there."""
    return run.tokenizer or TOKENIZERS["char"]


def _lengths(run: Run, side: str) -> FloatArray:
    """(N,) length of one side's responses."""
    return lengths(run.texts(side), _tokenizer(run))


def _values(run: Run, role: str, side: str) -> FloatArray:
    return np.array([row[side][role] for row in run.responses], dtype=np.float64)


def _histogram(title: str, note: str, label: str, shown: Sequence[Shown], zero: bool = False, things: str = "responses") -> Plot:
    """Histograms with common bins; of many methods the spread of each, because outlines would hide one another.

    Args:
        title: of the plot.
        note: its explanation.
        label: of the horizontal axis.
        shown: what is drawn.
        zero: whether to mark 0.
        things: what is counted.
    """
    are_many = len(shown) > OUTLINES

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        if are_many:
            _draw_spreads(axes, shown)
        else:
            _draw_outlines(axes, shown)
            axes.set_ylabel(f"share of {things}")
        if zero:
            axes.axvline(0, color=GREY, linewidth=1)
        axes.set_xlabel(label)
        axes.margins(x=0.02)

    def quartiles(values: FloatArray) -> str:
        low, middle, high = (number(float(value)) for value in np.percentile(values, [25, 50, 75]))
        return f"median {middle}, middle half {low} to {high}"

    told = "; ".join(f"{name} {quartiles(values)}" for name, _, values in shown)
    inches = (SIZE[0], max(SIZE[1], 0.9 + 0.3 * len(shown))) if are_many else SIZE
    how = " Thick: the middle half; thin: 5th to 95th percentile; dot: the median." if are_many else ""
    return Plot(title, note + how, svg(draw, inches, f"{title}: {told}."))


def _draw_outlines(axes: Axes, shown: Sequence[Shown]) -> None:
    every = np.concatenate([values for _, _, values in shown])
    edges = np.linspace(every.min(), every.max(), min(BINS, max(5, len(every) // 5)) + 1)
    if not (np.diff(edges) > 0).all():  # equal up to rounding: one bin around all of them
        edges = every.mean() + np.array([-1, 1]) * max(0.5, np.abs(every).max() / 100)
    for _, shade, values in shown:
        bars = partial(axes.hist, values, edges.tolist(), weights=np.full(len(values), 1 / len(values)), color=shade)
        bars(histtype="stepfilled", alpha=0.25, linewidth=0)
        bars(histtype="step", linewidth=1.4)


def _draw_spreads(axes: Axes, shown: Sequence[Shown]) -> None:
    for place, (_, shade, values) in enumerate(shown):
        least, low, middle, high, most = np.percentile(values, [5, 25, 50, 75, 95])
        axes.plot([least, most], [place, place], color=shade, linewidth=1.4)
        axes.plot([low, high], [place, place], color=shade, linewidth=5, solid_capstyle="butt")
        axes.plot(middle, place, "o", color=shade, markersize=7)
    axes.set_yticks(range(len(shown)), [name for name, *_ in shown])
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x")
