"""A plain model of how the stages grow, from what scripts/growth.py measured: value = a + b · rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

Record = dict[str, Any]

BY_BLOCKS = ("examples", "rewards", "values", "reference-logps", "likelihoods", "generations", "answer-logps")  # artifacts
BOUNDED = ("tokenizer",)  # artifacts that read 100,000 texts at most
GB, DAY = 1e9, 86_400
ASSUMED = """\
Assumed: each figure is a + b · rows, fitted to measurements of one process by relative errors; more rows than were measured are
a guess. Each of {cores} cores computes its share of the blocks of {by_blocks}.
All else (reading, checks, the start, the steps) takes as long as in one process; the tokenizer, which reads 100,000 texts at
most, as long as at the largest size. Every process holds the same memory. The disk keeps up with {cores} cores.
"""


def fit(rows: Sequence[float], values: Sequence[float]) -> tuple[float, float]:
    """a, b ≥ 0 of value = a + b · rows with the least sum of squared relative errors."""
    from scipy.optimize import nnls

    found = np.asarray(values, dtype=float)
    scale = np.maximum(found, 0.01 * found.max()) if found.any() else np.ones(len(found))
    a, b = nnls(np.stack([np.ones(len(rows)), np.asarray(rows)], axis=1) / scale[:, None], found / scale)[0]
    return float(a), float(b)


def seconds_by_kind(one: Record) -> dict[str, float]:
    """The seconds of a stage by kind of artifact; ``rest`` is what built none: the start, and reading what was there."""
    found: dict[str, float] = defaultdict(float)
    for name, seconds in one["artifacts"].items():
        found[name.split("/")[1]] += seconds
    return {**found, "rest": max(0.0, one["seconds"] - sum(found.values()))}


def seconds_of(ones: Sequence[Record], cores: int) -> tuple[float, float, float, float]:
    """a and b of a stage's seconds on so many cores, and of those in which one core works alone."""
    rows, kinds = [one["case"]["rows"] for one in ones], [seconds_by_kind(one) for one in ones]
    alone, shared = np.zeros(2), np.zeros(2)
    for kind in sorted({key for one in kinds for key in one}):
        seconds = [found.get(kind, 0.0) for found in kinds]
        part = (seconds[-1], 0.0) if kind in BOUNDED else fit(rows, seconds)
        if kind in BY_BLOCKS:
            shared += part
        else:
            alone += part
    a, b = alone + shared / cores
    return float(a), float(b), float(alone[0]), float(alone[1])


def predicted(measured: Mapping[str, Sequence[Record]], rows: int, cores: int, memory: float, files: int) -> Iterator[str]:
    """Lines of Markdown: the fits, what so many rows would take, and at how many rows each limit is reached first.

    Args:
        measured: by stage, measurements of one process in order of their rows.
        rows, cores: that are asked about.
        memory: GB of the machine.
        files: that a file system is glad to hold.
    """
    yield ASSUMED.format(cores=cores, by_blocks=", ".join(BY_BLOCKS))
    at = f"at {rows:,}"
    heads = (
        "stage", "measured up to", "seconds, a + b · 10^6 rows", f"{at}, one core", f"{cores} cores", "of it one core alone",
        "GB per process, a + b · 10^6 rows", at, f"GB written {at}",
    )  # fmt: skip
    yield f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|"
    limits: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for stage, ones in measured.items():
        sizes = [one["case"]["rows"] for one in ones]
        if len(sizes) < 2:
            continue
        a, b, *_ = seconds_of(ones, 1)
        c, d, alone, alone_b = seconds_of(ones, cores)
        held, written = (fit(sizes, [one[key] / GB for one in ones]) for key in ("memory", "written"))
        cells = (
            stage, f"{sizes[-1]:,}", f"{a:.1f} + {b * 1e6:.1f}", f"{a + b * rows:,.0f}", f"{c + d * rows:,.0f}",
            f"{alone + alone_b * rows:,.0f}", f"{held[0]:.2f} + {held[1] * 1e6:.3f}", f"{held[0] + held[1] * rows:,.1f}",
            f"{written[0] + written[1] * rows:,.0f}",
        )  # fmt: skip
        yield f"| {' | '.join(cells)} |"
        reached = {
            f"{memory:g} GB in one process": (held, memory), f"{memory:g} GB in {cores} processes": (held, memory / cores),
            f"{files:,} files": (fit(sizes, [one["files"] for one in ones]), files), f"a day on {cores} cores": ((c, d), DAY),
        }  # fmt: skip
        for what, ((start, slope), most) in reached.items():
            limits[what] += [(max(0.0, (most - start) / slope), stage)] if slope > 0 else []
    yield "\nWhat breaks first, beyond how many rows:\n"
    first = {what: min(found) for what, found in limits.items() if found}
    for what, (where, stage) in sorted(first.items(), key=lambda item: item[1]):
        yield f"- {float(f'{where:.2g}'):,.0f}: {what} ({stage})"
