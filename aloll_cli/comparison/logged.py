"""What a run's data hold: the best logged response to each evaluated prompt, and R and V of the training responses."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from aloll_cli.artifacts.logged_prompts import best_logged
from aloll_cli.artifacts.raw_table import load_data
from aloll_cli.artifacts.rewards import load_rewards
from aloll_cli.artifacts.values import load_values
from aloll_cli.comparison.runs import Run, folder_of
from aloll_cli.comparison.shape import made_from
from aloll_cli.foreign import GREATEST, Unreadable, damaged
from aloll_cli.store.manifest import MANIFEST
from aloll_cli.store.tables import read_blocks

if TYPE_CHECKING:
    import pyarrow as pa

    from aloll_cli.arrays import FloatArray

PROMPTS = {"prompt": "string", "group": "string"}
LOGGED = {"group": "string", "response": "string", "stored": "double", "position": "int64"}


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
    rows = _typed(generations, read_blocks(generations / "responses", [*PROMPTS]), PROMPTS)
    raw = _typed(data, load_data(data, run.metrics["split"], [*LOGGED]), LOGGED)
    there = set(raw.column("group").to_pylist())
    pairs = zip(rows.column("prompt").to_pylist(), rows.column("group").to_pylist(), strict=True)
    groups = {prompt: group for prompt, group in pairs if group in there}
    found = best_logged(raw, [*groups.values()])
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
    rewards = _numbers(scored, load_rewards(scored))
    values = _numbers(valued, load_values(valued, "train"))
    return (rewards, values) if len(rewards) == len(values) > 0 else None


def _typed(folder: Path, table: pa.Table, types: dict[str, str]) -> pa.Table:
    """A table of somebody's folder, whose columns have the types that this program writes. Raises UserError if they have not."""
    import pyarrow as pa
    import pyarrow.compute as pc

    with damaged(folder):
        try:
            found = table.select([*types]).cast(pa.schema([*types.items()]))
        except pa.ArrowException as error:
            raise Unreadable(f"has other columns: {' '.join(str(error).split())[:200]}") from None
        for name in types.keys() - {"stored"}:
            if found.column(name).null_count:
                raise Unreadable(f"has no {name} in some rows")
        if "stored" in types and not pc.all(pc.is_finite(found.column("stored")), min_count=0).as_py():
            raise Unreadable("has a stored reward that is no number")
    return found


def _numbers(folder: Path, values: FloatArray) -> FloatArray:
    import numpy as np

    with damaged(folder):
        if values.dtype.kind != "f" or not (np.abs(values) <= GREATEST).all():
            raise Unreadable("has values that are no numbers")
    return values


def _folder(run: Run, kind: str, recipe: Any) -> Path | None:
    """The folder of a complete artifact that a run was made of; None where it is gone, or of another kind."""
    if not isinstance(recipe, dict) or recipe.get("kind") != kind:
        return None
    folder = folder_of(run.folder.parent.parent, recipe)
    return folder if (folder / MANIFEST).is_file() else None
