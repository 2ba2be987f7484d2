"""Compute the reward of every logged response."""

from __future__ import annotations

from aloll_cli.artifacts.pipeline import Pipeline
from aloll_cli.artifacts.rewards import load_components, load_rewards
from aloll_cli.reports.tables import show_rewards
from aloll_cli.settings.root import Settings
from aloll_cli.store.store import Store
from aloll_cli.tasks.base import SPLITS


def run(settings: Settings, store: Store) -> None:
    """Build the rewards of all splits and print their distribution, and that of each component if there are several."""
    line = Pipeline(settings)
    folders = {split: store.ensure(line.rewards(split)) for split in SPLITS}
    if store.world.is_main:
        names = line.scored_by.components()
        scores = {
            split: {settings.reward.label: load_rewards(folder)} | (load_components(folder, names) if len(names) > 1 else {})
            for split, folder in folders.items()
        }
        show_rewards(scores, list(folders.values()))
