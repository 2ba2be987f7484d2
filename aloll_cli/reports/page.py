"""One HTML page about evaluated runs: self-contained, works offline, the same bytes for the same files."""

from __future__ import annotations

import math
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

from aloll_cli.comparison.differences import Comparison
from aloll_cli.comparison.judged import judgements_of
from aloll_cli.comparison.runs import Run
from aloll_cli.files import write_json, write_text
from aloll_cli.reports.browser import content
from aloll_cli.reports.comparison_columns import Column, as_plain, caveats, columns, costs
from aloll_cli.reports.curves import curves
from aloll_cli.reports.distributions import distributions
from aloll_cli.reports.drawing import colour
from aloll_cli.reports.figures import comparison, comparison_by_subset, conclusions, too_few
from aloll_cli.reports.first_screen import cards
from aloll_cli.reports.gains import gains
from aloll_cli.reports.judged import sentences
from aloll_cli.reports.origin import origin
from aloll_cli.reports.text import counted, ending, number
from aloll_cli.schema import fingerprint
from aloll_cli.sealed import data, policy
from aloll_cli.store.marker import refuse_links
from aloll_cli.visible import visible

PROMPTS = 10  # prompts whose responses are shown where no script runs
SHOWN = 2000  # characters shown of the end of a prompt and of the beginning of a response
COLUMNS = 8  # of figures in a table of methods, so that it fits 1,300 pixels


def name_of(found: Comparison) -> str:
    """The file name of the page about some runs: no other runs' page has it."""
    if found.is_single:
        return f"{found.runs[0].name}.html"
    told = [[run.name for run in found.runs], [row.against and row.against.name for row in found.rows], list(found.best_of)]
    return f"compare-{fingerprint({'told': told})}.html"


def write_page(found: Comparison, page: Path) -> None:
    """Write the page about one or more runs atomically; for several runs, also their comparison as JSON, ``page.json``."""
    text = render(found)
    refuse_links(page.parent.parent, page.parent)
    page.parent.mkdir(parents=True, exist_ok=True)
    write_text(page, text, durably=True)
    if not found.is_single:
        write_json(page.with_suffix(".json"), as_plain(found))


def render(found: Comparison) -> str:
    """The page's HTML. Its policy allows the one script and the one style that it holds, by their hashes, and nothing else."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"number": _number, "counted": counted, "visible": partial(visible, limit=SHOWN)}
    folder = resources.files("aloll_cli.reports")
    style, script, frame = (folder.joinpath(name).read_text("utf-8") for name in ("page.css", "page.js", "report.html"))
    runs, rows = found.runs, content(found)
    metrics, judged, every = runs[0].metrics, sentences(judgements_of(runs)), [*columns(found), *costs(found)]
    notes = conclusions(metrics) if found.is_single else caveats(found, costs(found))
    drawn = [
        (run, f"{run.label} {method.setting}".strip(), look) for look, method in enumerate(found.methods) for run in method.runs
    ]
    return environment.from_string(frame).render(
        policy=policy(style, script),
        style=Markup(style),
        script=Markup(script),
        data=Markup(data(rows)),
        content=rows,
        scored="reward" in rows["scores"],
        logged=any(logged for _, logged, _ in rows["prompts"]),
        title=_title(found),
        single=found.is_single,
        common=_common(runs),
        cards=cards(found),
        runs=runs,
        names=[name for _, name, _ in drawn],
        methods=found.methods,
        colours=[colour(look) for look in range(len(found.methods))],
        legend=[(method.name, colour(look)) for look, method in enumerate(found.methods)] if len(found.rows) > 1 else [],
        comparison=comparison(metrics),
        by_subset=comparison_by_subset(metrics),
        too_few=too_few(metrics),
        tables=_parts(every),
        judged=judged,
        sentences=[said for said in notes if said not in judged],
        gains=None if found.is_single else gains(found.rows),
        rewards=distributions(found),
        curves=curves(drawn),
        examples=_examples(found),
        several_references=len({run.made_of["reference"] for run in runs}) > 1,
        origins=[origin(run, name) for run, name, _ in drawn],
    )


def _parts(every: list[Column]) -> list[list[Column]]:
    """Columns in parts of about equal size."""
    size = math.ceil(len(every) / max(1, math.ceil(len(every) / COLUMNS)))
    return [every[start : start + size] for start in range(0, len(every), size)]


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


def _examples(found: Comparison) -> list[dict[str, Any]]:
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
