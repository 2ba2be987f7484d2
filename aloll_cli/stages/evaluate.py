"""Generate responses to the test prompts with policy and reference, and compare them."""

from __future__ import annotations

from aloll_cli.artifacts.pipeline import Pipeline
from aloll_cli.comparison.shape import load_metrics, responses_of
from aloll_cli.foreign import damaged
from aloll_cli.reports.tables import show_comparison, show_responses
from aloll_cli.settings.root import Settings
from aloll_cli.store.store import Store

PAIRS = 3  # prompts whose responses are shown


def run(settings: Settings, store: Store) -> float | None:
    """Build the metrics and print them; returns the mean gain, or None if the reward cannot score generated text."""
    directory = store.ensure(Pipeline(settings).metrics)
    metrics = load_metrics(directory)
    if store.world.is_main:
        show_comparison(metrics, directory)
        with damaged(directory / "answers.jsonl"):
            first = responses_of(directory)[:: metrics["samples"]]
        show_responses(first[:PAIRS])
    return metrics["gain"]["mean"] if metrics["gain"] else None
