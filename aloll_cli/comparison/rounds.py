"""The earlier rounds of a run (``rounds=``): their curves, and the responses that were generated between them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aloll_cli.comparison.shape import CURVES, evaluations_of, steps_of
from aloll_cli.foreign import damaged, recipe_of
from aloll_cli.schema import fingerprint
from aloll_cli.store.inventory import STANDS_FOR
from aloll_cli.store.manifest import check_files

OWN = "samples_"  # roles of generated responses in a pool, by number


@dataclass(frozen=True)
class Round:
    """One round of training before the last one.

    Attributes:
        updates: what training logged, one row per training step.
        evaluations: validation scores, one row per evaluation.
        sampled: ``samples`` and ``sampled_tokens`` of the responses that were generated after it; empty if they are gone.
    """

    updates: list[dict[str, Any]]
    evaluations: list[dict[str, Any]]
    sampled: dict[str, Any]


def earlier_rounds(root: Path, policy: dict[str, Any]) -> list[Round]:
    """The rounds before a policy, the first one first.

    Args:
        root: ``outputs/TASK``.
        policy: its recipe.

    Raises:
        UserError: a file of theirs cannot be read.
    """
    start = policy.get("inputs", {}).get("start", {})
    if start.get("kind") != "round":
        return []
    folder = next((root / "policy").glob(f"*-{start['identity'][STANDS_FOR]}"), None)
    if folder is None:
        return []
    check_files(folder, "recipe.json", *CURVES)
    with damaged(folder / "recipe.json"):
        recipe = recipe_of(folder / "recipe.json")
    with damaged(folder / "metrics.jsonl"):
        steps = steps_of(folder)
    with damaged(folder / "evaluations.jsonl"):
        evaluations = evaluations_of(folder)
    return [*earlier_rounds(root, recipe), Round(steps, evaluations, _samples(root, policy["inputs"]["examples"]))]


def _samples(root: Path, pool: dict[str, Any]) -> dict[str, Any]:
    """Responses and tokens that the last of the rounds in a pool has added; nothing if they are gone."""
    from aloll_cli.store.tables import read_blocks

    numbers = [int(role.removeprefix(OWN)) for role in pool["inputs"] if role.startswith(OWN)]
    recipe = pool["inputs"][f"{OWN}{max(numbers)}"]
    folder = next((root / "generations").glob(f"*-{fingerprint(recipe)}"), None)
    if folder is None:
        return {}
    tokens = read_blocks(folder / "responses", ["tokens"]).column("tokens").to_numpy()
    return {"samples": len(tokens), "sampled_tokens": int(tokens.sum())}
