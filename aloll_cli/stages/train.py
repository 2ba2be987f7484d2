"""Train a policy with one variant."""

from __future__ import annotations

from aloll_cli.artifacts.pipeline import Pipeline
from aloll_cli.comparison.shape import evaluations_of
from aloll_cli.foreign import damaged
from aloll_cli.reports.estimate import warn_if_long
from aloll_cli.settings.root import Settings
from aloll_cli.store.store import Store


def run(settings: Settings, store: Store) -> float:
    """Build the policy; returns its best validation score, which a sweep can optimise."""
    line = Pipeline(settings)
    warn_if_long(line, line.policy, store)
    directory = store.ensure(line.policy)
    with damaged(directory / "evaluations.jsonl"):
        records = evaluations_of(directory)
    return float(max(record["score"] for record in records if record["update"]))
