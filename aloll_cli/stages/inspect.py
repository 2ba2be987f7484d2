"""Show what the model will see, before anything is trained."""

from __future__ import annotations

import json
from typing import Any

from rich.text import Text

from aloll_cli.artifacts.examples import unused_template
from aloll_cli.artifacts.pipeline import Pipeline
from aloll_cli.models.saving import load_tokenizer
from aloll_cli.reports.inspection import inspected
from aloll_cli.reports.tables import show_inspection
from aloll_cli.runtime.terminal import results
from aloll_cli.settings.root import Settings
from aloll_cli.store.store import Store
from aloll_cli.tasks.base import SPLITS


def run(settings: Settings, store: Store) -> dict[str, Any] | None:
    """Print a few examples, and statistics of rows, truncation, lengths, duplicates and rewards; returns them.

    ``format=json`` prints the same as one JSON object. A reward that needs a download is not computed: the stored rewards are
    shown instead.
    """
    as_json = settings.format.is_json("inspect")
    line = Pipeline(settings)
    data, tokenizer, examples = (store.ensure(artifact) for artifact in (line.data, line.tokenizer, line.examples))
    rewards = {} if settings.reward.downloads else {split: store.ensure(line.rewards(split)) for split in SPLITS}
    if not store.world.is_main:
        return None
    loaded = load_tokenizer(tokenizer, line.tokenizer.model.trusts_code)
    found = inspected(data, examples, rewards, line.scored_by, settings.task, loaded, settings.words)
    unused = unused_template(examples, loaded, settings.task.chat)
    found |= {"reading": [*line.data.reading(data), *([unused] if unused else [])]}
    if as_json:
        results.print(Text(json.dumps(found, indent=1)))
    else:
        show_inspection(found)
    return found
