"""Say what would be made or reused, and which option makes it differ."""

from __future__ import annotations

from aloll_cli.artifacts.pipeline import Pipeline
from aloll_cli.files import read_json
from aloll_cli.runtime.terminal import results
from aloll_cli.schema import flatten
from aloll_cli.settings.root import Settings
from aloll_cli.store.store import Artifact, Store


def run(settings: Settings, store: Store) -> None:
    """One line for each artifact up to the metrics, in the order in which they would be made."""
    if store.world.is_main:
        seen: set[str] = set()
        _show(Pipeline(settings).metrics, store, seen)


def _show(artifact: Artifact, store: Store, seen: set[str]) -> None:
    if artifact.fingerprint in seen:
        return
    seen.add(artifact.fingerprint)
    for needed in artifact.inputs().values():
        _show(needed, store, seen)
    if store.is_complete(artifact):
        results.print(f"reuse  {artifact.folder}", markup=False)
        return
    going_on = store.path(artifact).with_name(store.path(artifact).name + ".partial").exists()
    results.print(f"{'resume' if going_on else 'make  '} {artifact.folder}", markup=False)
    for line in _differences(artifact, store):
        results.print(f"         {line}", markup=False)


def _differences(artifact: Artifact, store: Store) -> list[str]:
    """The fields in which an artifact differs from the nearest one that is there."""
    mine = flatten(artifact.recipe)
    nearest: tuple[int, str, dict[str, tuple[object, object]]] | None = None
    for file in sorted((store.root / artifact.kind).glob("*/recipe.json")):
        if file.parent.suffix == ".partial":
            continue
        theirs = flatten(read_json(file))
        changed = {k: (theirs.get(k), mine.get(k)) for k in sorted(mine.keys() | theirs.keys()) if theirs.get(k) != mine.get(k)}
        own = {k: v for k, v in changed.items() if not k.startswith("inputs.")}
        if nearest is None or len(changed) < nearest[0]:
            nearest = (len(changed), file.parent.name, own or _shortest(changed))
    if nearest is None:
        return []
    _, name, changed = nearest
    return [f"differs from {name} in {_option(key)}: {old} → {new}" for key, (old, new) in changed.items()]


def _shortest(changed: dict[str, tuple[object, object]]) -> dict[str, tuple[object, object]]:
    """Of fields that differ only upstream, the distinct ones by their last words, the nearest to the surface."""
    kept: dict[str, tuple[object, object]] = {}
    for key in sorted(changed, key=lambda k: (k.count("."), k)):
        if not any(_option(key) == _option(other) for other in kept):
            kept[key] = changed[key]
    return kept


def _option(key: str) -> str:
    """A recipe's field as close to its option as can be said: ``inputs.policy.identity.optimizer.lr`` is ``optimizer.lr``."""
    return key.rpartition("identity.")[2]
