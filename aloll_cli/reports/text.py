"""Format numbers, intervals and model output for people."""

from __future__ import annotations

from typing import Any


def number(value: float, sign: str = "", like: float | None = None) -> str:
    """About four significant digits: three decimals below 10, two below 100, one from there on.

    Args:
        value: the number to format.
        sign: "+" to show a plus sign.
        like: use the number of decimals of this number, so that a mean and its interval agree.
    """
    size = abs(value if like is None else like)
    return f"{value:{sign}.{3 if size < 10 else 2 if size < 100 else 1}f}"


def counted(value: float) -> str:
    """A count in few characters: ``61,234``; from a million on ``1.23 M``."""
    for size, unit in ((1e9, " G"), (1e6, " M")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:,.0f}"


def duration(seconds: float) -> str:
    """``12.3 s``, ``4 min 05 s`` or ``3 h 02 min``."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours:,} h {minute:02} min" if hours else f"{minute} min {second:02} s"


def interval(figure: dict[str, Any], sign: str = "") -> str:
    """``0.305 [0.271, 0.340]``: a mean and its 95% interval; the mean alone where there are too few prompts for an interval."""
    mean = figure["mean"]
    if figure["ci95"] is None:
        return number(mean, sign)
    lo, hi = figure["ci95"]
    return f"{number(mean, sign)} [{number(lo, like=mean)}, {number(hi, like=mean)}]"


def ending(prompt: str, limit: int) -> str:
    """The last ``limit`` characters of a prompt: the part that a response follows."""
    return prompt if len(prompt) <= limit else "... " + prompt[-limit:].lstrip()
