"""Judgements in sentences, for the terminal, comparison tables and pages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aloll_cli.reports.text import counted, interval, number

EVEN = 0.5


def sentences(judgements: Sequence[dict[str, Any]]) -> list[str]:
    """A line for each question of each judgement, and one for what it is based on."""
    return [line for judgement in judgements for line in (*_questions(judgement), basis(judgement))]


def _questions(judgement: dict[str, Any]) -> list[str]:
    first, second = (side["label"] for side in judgement["sides"])
    by = judgement["by"]
    return [
        f"judged by {by}{'' if question == by else f', {question}'}: {_won(first, second, found)}"  # a reward's only question
        for question, found in judgement["questions"].items()
    ]


def _won(first: str, second: str, found: dict[str, Any]) -> str:
    if found["win_rate"] is None:
        return f"no win rate of {first} over {second}: no pair has a judgement."
    shares = found["shares"]
    said = f"win rate of {first} over {second} {interval(found['win_rate'])} (wins {_share(shares['first'])}, losses "
    said += f"{_share(shares['second'])}, equal {_share(shares['equal'])}, neither {_share(shares['neither'])}); {verdict(found)}"
    if found["position"]["bias"] is not None and found["consistent"] is not None:
        said += f"; position bias {number(found['position']['bias'], '+')}, both orders agree in {_share(found['consistent'])}"
    if "agreement" in found:
        alpha = found["agreement"]["alpha"]
        shown = f"not defined ({found['agreement']['why']})" if alpha is None else number(alpha)
        said += f"; Krippendorff's alpha {shown} over {found['agreement']['pairs']} pairs"
    return f"{said}."


def verdict(found: dict[str, Any]) -> str:
    """What the interval of a win rate says."""
    if found["win_rate"]["ci95"] is None:
        return "too few prompts for a verdict"
    lo, hi = found["win_rate"]["ci95"]
    return "no significant difference" if lo <= EVEN <= hi else "better" if lo > EVEN else "worse"


def basis(judgement: dict[str, Any]) -> str:
    """What the figures are based on: pairs, malformed replies, tokens."""
    said = f"  {judgement['judged']:,} of {judgement['pairs']:,} pairs of {judgement['prompts']:,} prompts were judged"
    said += f", {judgement['identical']:,} are of one text and count as equal" if judgement["identical"] else ""
    said += f", {judgement['left_out']:,} are left out" if judgement["left_out"] else ""
    if judgement["judge"] == "llm":
        why = ", ".join(f"{count} {why}" for why, count in judgement["malformed_why"].items())
        said += f"; malformed replies: {judgement['malformed']:,} of {judgement['ballots']:,}" + (f" ({why})" if why else "")
        cost = judgement["cost"]
        said += f"; tokens: {counted(cost['prompt_tokens'])} read, {counted(cost['completion_tokens'])} written"
        said += f" ({cost['without_usage']:,} replies do not say)" if cost["without_usage"] else ""
    elif judgement["judge"] == "human":
        said += f" by {judgement['voters']} {'person' if judgement['voters'] == 1 else 'people'}"
    return f"{said}. Intervals: 95%, over prompts; equal and neither count as 1/2."


def _share(value: float) -> str:
    return f"{value:.1%}"
