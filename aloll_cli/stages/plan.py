"""Show what would be built, and which options differ from those of the most similar existing artifact."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from aloll_cli.artifacts.pipeline import Pipeline
from aloll_cli.comparison.grouping import option_of, shown
from aloll_cli.foreign import Unreadable, recipe_of
from aloll_cli.runtime.terminal import results
from aloll_cli.schema import flatten
from aloll_cli.settings.root import Settings
from aloll_cli.store.places import PARTIAL
from aloll_cli.store.store import Artifact, Store, upstream

BASELINES = ("metrics", "policy", "values", "reference", "examples", "data")  # kinds; the first one with an artifact is compared
DIGITS = 12  # shown of a hash of file contents
# by kind: the beginnings of a recipe's fields, and of the options that set them; the other fields are named like their options
OPTIONS = {
    "tokenizer": {"vocab_size": "model.vocab_size", "": "tokenizer "},
    "base-model": {"seed": "reference.seed"},
    "reference": {"adapter": "adapter", "": "reference."},
    "reference-logps": {"draws.": "", "feed.": ""},
    "policy": {"feed.": "", "judge.prompts": "eval_prompts", "judge.reward": "reward", "judge.generation": "generation"},
}
DERIVED = ("feed.unit",)  # set by the variant alone
REFERENCES = {"reference": "trained", "base-model": "pretrained"}  # kind of a reference policy: choice of reference=

Recipe = dict[str, Any]
Differences = dict[str, tuple[Any, Any]]  # option: old value, new value


def run(settings: Settings, store: Store) -> None:
    """Print what would be built and, with ``estimate=true``, how long that takes."""
    _print_plan(settings, store)
    if settings.estimate:
        from aloll_cli.reports.estimate import show_estimate

        show_estimate(Pipeline(settings), store)


def _print_plan(settings: Settings, store: Store) -> None:
    """Print one line per artifact up to the metrics, in build order: cached, to build, or to resume.

    An option that differs from the most similar existing artifact is printed once, with both values, below the first artifact
    that has to be built because of it. The artifacts that depend on that one have no further lines.
    """
    if not store.world.is_main:
        return
    metrics = Pipeline(settings).metrics
    planned = [*upstream(metrics), metrics]
    states = {artifact.fingerprint: _state(artifact, store) for artifact in planned}
    baseline, existing = _existing(planned, store)
    printed: set[str] = set()
    for artifact in planned:
        state, old = states[artifact.fingerprint], existing.get(artifact.fingerprint)
        results.print(f"{state:7} {artifact.folder}", markup=False)
        found = differences(old, artifact.recipe) if old and state != "cached" else {}
        for option, (before, after) in found.items():
            if option not in printed and not _follows(option, before, after):
                results.print(f"          {option}: {_brief(before)} → {_brief(after)}", markup=False)
        printed |= found.keys()
    counts = Counter(states.values())
    compared = f"; options are compared with {baseline}" if printed else ""
    results.print(f"{counts['cached']} cached, {counts['build']} to build, {counts['resume']} to resume{compared}", markup=False)


def _state(artifact: Artifact, store: Store) -> str:
    if store.is_complete(artifact):
        return "cached"
    path = store.path(artifact)
    return "resume" if artifact.resumes and path.with_name(path.name + ".partial").exists() else "build"


def _existing(planned: list[Artifact], store: Store) -> tuple[str, dict[str, Recipe]]:
    """The most similar existing evaluation (if nothing was evaluated, the most similar policy, and so on).

    Returns:
        Its folder, and its recipe and those of its inputs, by the fingerprints of the planned artifacts in the same roles.
    """
    for artifact in sorted((a for a in planned if a.kind in BASELINES), key=lambda a: BASELINES.index(a.kind)):
        files = sorted((store.root / artifact.kind).glob("*/recipe.json"))
        recipes = {file.parent.name: recipe for file in files if file.parent.suffix != PARTIAL and (recipe := _read(file))}
        if recipes:
            name = min(recipes, key=lambda name: len(differences(recipes[name], artifact.recipe)))
            found: dict[str, Recipe] = {}
            _align(artifact, recipes[name], found)
            return f"{artifact.kind}/{name}", found
    return "", {}


def _read(file: Path) -> Recipe | None:
    """A recipe, or None if it is damaged."""
    try:
        return recipe_of(file)
    except (OSError, Unreadable):
        return None


def _align(artifact: Artifact, recipe: Recipe, found: dict[str, Recipe]) -> None:
    if artifact.fingerprint not in found:
        found[artifact.fingerprint] = recipe
        for role, needed in artifact.inputs().items():
            if role in recipe["inputs"] and recipe["inputs"][role]["kind"] == needed.kind:
                _align(needed, recipe["inputs"][role], found)


def differences(old: Recipe, new: Recipe) -> Differences:
    """The options in which two recipes of one kind differ, each once, those of inputs first.

    Inputs that only one recipe has, or that are of different kinds, are differences too: ``input policy``.
    """
    if old == new:
        return {}
    found: Differences = {}
    for role in dict.fromkeys([*new["inputs"], *old["inputs"]]):
        theirs, mine = old["inputs"].get(role), new["inputs"].get(role)
        if theirs and mine and theirs["kind"] == mine["kind"]:
            found |= differences(theirs, mine)
        else:
            found |= _of_kinds(role, theirs and theirs["kind"], mine and mine["kind"])
    return found | _own(old, new)


def _of_kinds(role: str, old: str | None, new: str | None) -> Differences:
    if old in REFERENCES and new in REFERENCES:
        return {"reference": (REFERENCES[old], REFERENCES[new])}
    return {f"input {role}": (old, new)}


def _follows(option: str, old: Any, new: Any) -> bool:
    """Whether a difference follows from another option: an input that only one recipe has."""
    return option.startswith("input ") and (old is None or new is None)


def _own(old: Recipe, new: Recipe) -> Differences:
    """Differences that are not in inputs.

    If a group has another choice, its options follow from the choice and are left out. So are fields that only one recipe has,
    if there are others.
    """
    theirs, mine = ({"version": recipe["version"]} | flatten(recipe["identity"]) for recipe in (old, new))
    changed = [key for key in {**mine, **theirs} if mine.get(key) != theirs.get(key) and key not in DERIVED]
    code = {key.removesuffix("code") for key in changed if key.rpartition(".")[2] == "code"}
    changed = [key for key in changed if key.rpartition(".")[2] != "code"]
    changed = [key for key in changed if key in mine and key in theirs] or changed
    groups = tuple(key.removesuffix("name") for key in changed if key.endswith(".name"))
    chosen = [key for key in changed if key.endswith(".name") or not key.startswith(groups)]
    of_code = {
        f"code of {(prefix or new['kind']).rstrip('.')}": (theirs.get(f"{prefix}code"), mine.get(f"{prefix}code"))
        for prefix in code
    }
    return {_option(new["kind"], key): (theirs.get(key), mine.get(key)) for key in chosen} | of_code


def _option(kind: str, key: str) -> str:
    """The option that sets a field of a recipe: ``judge.prompts`` of a policy is ``eval_prompts``."""
    if key == "version":
        return f"version of {kind}"
    for field, option in OPTIONS.get(kind, {}).items():
        if key.startswith(field):
            return option_of(option + key.removeprefix(field))
    return option_of(key)


def _brief(value: Any) -> str:
    """A value as on the command line; of a hash the first digits."""
    text = shown(value)
    is_hash = len(text) == 64 and not set(text) - set("0123456789abcdef")
    return f"{text[:DIGITS]}…" if is_hash else text
