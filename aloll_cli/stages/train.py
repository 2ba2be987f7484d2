"""Train a policy with one variant."""

from __future__ import annotations

from aloll_cli.artifacts.pipeline import Pipeline
from aloll_cli.comparison.shape import evaluations_of
from aloll_cli.foreign import damaged
from aloll_cli.reports.estimate import warn_if_long
from aloll_cli.settings.root import Settings
from aloll_cli.store.store import Store
from aloll_cli.training.selection import objective_of, selected_step


def run(settings: Settings, store: Store) -> float:
    """Build the policy; returns its best validation score (less its KL penalty), which a sweep can optimise."""
    line = Pipeline(settings)
    warn_if_long(line, line.policy, store)
    directory = store.ensure(line.policy)
    with damaged(directory / "evaluations.jsonl"):
        records = evaluations_of(directory)
    step = selected_step(records, by_score=True)
    best = next(record for record in records if record["update"] == step)
    objective = objective_of(best)
    return float(best["score"] if objective is None else objective)
