"""What a run's data hold: the best logged response to each evaluated prompt, and R and V of the training responses."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from aloll_cli.artifacts.data import load_data
from aloll_cli.artifacts.logged_prompts import best_logged
from aloll_cli.artifacts.rewards import load_rewards
from aloll_cli.artifacts.values import load_values
from aloll_cli.comparison.runs import Run, folder_of
from aloll_cli.comparison.shape import made_from
from aloll_cli.foreign import damaged
from aloll_cli.store.manifest import MANIFEST
from aloll_cli.store.tables import read_blocks

if TYPE_CHECKING:
    from aloll_cli.arrays import FloatArray


def logged_responses(run: Run) -> dict[str, tuple[str, float | None]]:
    """By prompt, the best logged response and its stored reward, None where none is stored.

    Empty where the data or the generated responses are no longer there.

    Raises:
        UserError: a file of theirs is damaged.
    """
    with damaged(run.folder / "recipe.json"):
        answers = made_from(run.folder)["policy_answers"]
    generations = _folder(run, "generations", answers)
    data = _folder(run, "data", answers["inputs"]["examples"]["inputs"]["data"])
    if generations is None or data is None:
        return {}
    rows = read_blocks(generations / "responses", ["prompt", "group"])
    groups = dict(zip(rows.column("prompt").to_pylist(), rows.column("group").to_pylist(), strict=True))
    found = best_logged(load_data(data, run.metrics["split"], ["group", "response", "stored", "position"]), [*groups.values()])
    return dict(zip(groups, found, strict=True))


def training_signals(run: Run) -> tuple[FloatArray, FloatArray] | None:
    """(N,) rewards R and (N,) values V of the training responses; A = R − V.

    None for a policy whose training has no such values, and where they are no longer there.

    Raises:
        UserError: a file of theirs is damaged.
    """
    with damaged(run.folder / "recipe.json"):
        inputs = made_from(run.folder)["policy_answers"]["inputs"]["policy"].get("inputs", {})
    scored, valued = (_folder(run, kind, inputs.get(kind)) for kind in ("rewards", "values"))
    if scored is None or valued is None:
        return None
    rewards, values = load_rewards(scored), load_values(valued, "train")
    return (rewards, values) if len(rewards) == len(values) else None


def _folder(run: Run, kind: str, recipe: Any) -> Path | None:
    """The folder of a complete artifact that a run was made of; None where it is gone, or of another kind."""
    if not isinstance(recipe, dict) or recipe.get("kind") != kind:
        return None
    folder = folder_of(run.folder.parent.parent, recipe)
    return folder if (folder / MANIFEST).is_file() else None
