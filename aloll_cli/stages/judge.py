"""Judge responses: of a policy and its reference, or of two policies, by people, a chat model or a reward."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from rich.text import Text

from aloll_cli.artifacts.data import Data
from aloll_cli.artifacts.judgements import Judgements
from aloll_cli.artifacts.mixed_rewards import scored_by
from aloll_cli.artifacts.pipeline import Pipeline
from aloll_cli.comparison.folders import named
from aloll_cli.comparison.judged import load_judgement
from aloll_cli.comparison.runs import Run, load_run
from aloll_cli.comparison.sides import sides
from aloll_cli.errors import UserError
from aloll_cli.judging.page import write_page
from aloll_cli.judging.pairs import Pair, chosen, distinct
from aloll_cli.judging.votes import page_for, read_votes
from aloll_cli.reports.judged import sentences
from aloll_cli.runtime.terminal import results
from aloll_cli.runtime.world import Alone
from aloll_cli.schema import as_written, plain
from aloll_cli.settings.root import Settings
from aloll_cli.store.store import Store


def run(settings: Settings, store: Store) -> dict[str, Any] | None:
    """Judge the runs of ``runs=[FOLDER,FOLDER]``, or this configuration's policy and reference; returns the judgement.

    People are asked by a page, which is written where ``votes=`` names no files; then nothing is returned.

    Raises:
        UserError: the runs cannot be compared, votes are of another page, or the judge cannot do its work.
    """
    as_json = settings.format.is_json("judge")
    judge = settings.judge
    if settings.votes and not judge.by_votes:
        raise UserError("votes= are of people.", f"{store.command.but('judge', 'judge')} judge=human")
    folder = None if settings.runs else store.ensure(Pipeline(settings).metrics)
    if not store.world.is_main:
        return None
    runs = [load_run(folder)] if folder else named("runs", settings.runs, store.log.warn)
    both, every = sides(runs)
    pairs = chosen(every, judge.prompts)
    store = _beside(runs[0], settings, store)
    if judge.by_votes and not settings.votes:
        _ask_people(pairs, settings, store)
        return None
    votes = read_votes(settings.votes, page_for(pairs, settings.rubric)) if judge.by_votes else []
    by = scored_by(judge.scored_by, Data(settings.task)) if judge.scored_by else None
    found = Judgements(judge, settings.rubric, both, pairs, by, votes, settings.resamples)
    folder = store.ensure(found)
    judgement = load_judgement(folder)
    if as_json:
        results.print(Text(json.dumps(judgement, indent=1)))
    else:
        for line in sentences([judgement]):
            results.print(Text(line))
        results.print(Text(f"judgement: {folder / 'judgement.json'}"))
    return judgement


def _beside(run: Run, settings: Settings, store: Store) -> Store:
    """A store of the folder that a run lies in, where comparisons and pages look for judgements; for this process alone."""
    config = {"stage": "judge"} | as_written(plain(settings))
    return Store(run.folder.parent.parent, store.runtime, Alone(), store.stopper, store.command, config)


def _ask_people(pairs: Sequence[Pair], settings: Settings, store: Store) -> None:
    """Write the page, and say what to do with it."""
    if not distinct(pairs):
        raise UserError("all pairs are of one text: there is nothing to judge.", "Name other runs.")
    page = page_for(pairs, settings.rubric)
    file = store.root / "report" / f"judge-{page.name}.html"
    write_page(page, file)
    results.print(Text(f"page: {file}"))
    store.log.say(f"{len(page.pairs)} pairs to judge. Send the page to each person; each sends back a file of votes. Then:")
    store.log.say(f"{store.command.but('judge', 'votes')} votes=[FILE,FILE]")
