"""Every response of a page's runs, as data for the list on it: side by side with those of the reference and the logged ones."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

from aloll_cli.comparison.differences import Comparison
from aloll_cli.comparison.logged import logged_responses
from aloll_cli.comparison.runs import Run
from aloll_cli.reports.text import ending
from aloll_cli.visible import visible

LONGEST = 4000  # characters shown of the end of a prompt and of the beginning of a response
DECIMALS = 6
SCORES = ("reward", "test_reward")

Row = dict[str, Any]


def content(found: Comparison) -> dict[str, Any]:
    """The responses of the reference and of each method; of a method with several seeds, those of its first run.

    Returns:
        ``sides``: their names, the reference first. ``scores``: which scores a response has. ``prompts``: of each the text, the
        best logged response or None, and its stored reward or None. ``rows``: one per sample of a prompt that all runs share:
        the place of the prompt in ``prompts``; and for each side the response, followed by its scores.
    """
    runs = [method.runs[0] for method in found.methods]
    names = [found.methods[0].variant] if found.is_single else [method.name for method in found.methods]
    first, *others = runs
    by_prompt = [_by_prompt(run) for run in runs]
    prompts = [prompt for prompt in by_prompt[0] if all(prompt in rows for rows in by_prompt[1:])]
    scores = [score for score in SCORES if all(score in run.responses[0]["policy"] for run in runs)]
    logged = logged_responses(first)
    cut = partial(visible, limit=LONGEST)
    rows = [
        [place, _side(mine[0]["reference"], scores), *(_side(row["policy"], scores) for row in mine)]
        for place, prompt in enumerate(prompts)
        for mine in zip(*(rows[prompt] for rows in by_prompt), strict=False)
    ]
    shown = []
    for prompt in prompts:
        response, reward = logged.get(prompt, (None, None))
        shown.append([visible(ending(prompt, LONGEST)), response and cut(response.strip()), reward and round(reward, DECIMALS)])
    return {"sides": ["reference", *names], "scores": scores, "prompts": shown, "rows": rows}


def _side(side: Row, scores: Iterable[str]) -> list[Any]:
    return [visible(side["response"].strip(), limit=LONGEST), *(round(side[score], DECIMALS) for score in scores)]


def _by_prompt(run: Run) -> dict[str, list[Row]]:
    """The rows of each prompt, in the order of its samples."""
    found: dict[str, list[Row]] = {}
    for row in run.responses:
        found.setdefault(row["prompt"], []).append(row)
    return found
