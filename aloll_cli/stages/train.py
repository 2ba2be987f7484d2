"""Train a policy with one variant."""

from __future__ import annotations

from aloll_cli.artifacts.pipeline import Pipeline
from aloll_cli.files import read_json_lines
from aloll_cli.settings.root import Settings
from aloll_cli.store.store import Store


def run(settings: Settings, store: Store) -> float:
    """Build the policy; returns its best validation score, which a sweep can optimise."""
    directory = store.ensure(Pipeline(settings).policy)
    records = read_json_lines(directory / "evaluations.jsonl")
    return float(max(record["score"] for record in records if record["update"]))
