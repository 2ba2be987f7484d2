"""What recipes say beyond options: with which code and which files a method, a scorer or values were made."""

from __future__ import annotations

from typing import Any

from aloll_cli.schema import flatten

DRAWS = ("draws", "draw")  # parts of a recipe that repeat the policy's seed
UNTOLD = "?"  # of a part that only one of two recipes has


def without_seed(recipe: Any) -> Any:
    """A policy's recipe without its seed, which is all in which the runs of one method differ.

    The seed of a reference stays, and a round's policy, for which its fingerprint stands, is left out.
    """
    if not isinstance(recipe, dict):
        return recipe
    own = ("seed",) if recipe.get("kind") == "policy" else ()
    kept = {key: without_seed(value) for key, value in recipe.items() if key != "stands_for"}
    for part in DRAWS:
        if isinstance(kept.get(part), dict):
            kept[part].pop("seed", None)
    if isinstance(kept.get("identity"), dict):
        kept["identity"] = {key: value for key, value in kept["identity"].items() if key not in own}
    return kept


def scorer(recipe: dict[str, Any]) -> dict[str, Any]:
    """The recipe of rewards or values without what is scored, and without the policies that it comes from."""
    identity = {key: value for key, value in recipe.get("identity", {}).items() if key != "table"}
    of = {
        role: scorer(one) if one.get("kind") in ("rewards", "values") else one
        for role, one in recipe.get("inputs", {}).items()
        if role not in ("source", "examples", "reference", "samples")
    }
    return {"version": recipe.get("version"), "identity": identity, "inputs": of}


def apart(first: dict[str, Any], other: dict[str, Any]) -> str:
    """The first part in which two recipes differ, as a dotted key without the words that every recipe has; empty: none."""
    mine, theirs = flatten(first), flatten(other)
    keys = (key for key in mine | theirs if mine.get(key, UNTOLD) != theirs.get(key, UNTOLD))
    words = next(keys, "").split(".")
    return ".".join(word for word in words if word not in ("identity", "inputs"))
