"""The folder of a build: begun, certified, renamed when it is complete; or tidied up after a failure."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from aloll_cli.errors import UserError
from aloll_cli.files import below, remove_tree, sync, write_text
from aloll_cli.store.built import BUILD
from aloll_cli.store.journal import Journal
from aloll_cli.store.manifest import Sums, remember, sums_of, write_manifest


def reopen(directory: Path, partial: Path) -> None:
    """Make an artifact without a readable manifest an interrupted build."""
    _remove(partial)
    directory.rename(partial)


def begin(partial: Path, recipe: dict[str, Any], config: dict[str, Any], resuming: bool) -> None:
    """Make the folder of a build, or go on in it, and write down what is built."""
    if not resuming:
        _remove(partial)
    partial.mkdir(parents=True, exist_ok=True)
    write_text(partial / "recipe.json", json.dumps(recipe, indent=1, sort_keys=True))
    write_text(partial / "config.yaml", _yaml(config))


def certify(partial: Path) -> Sums:
    """Write the manifest; returns the checksums of all files, which are on disk then.

    Raises:
        UserError: a file is not as it was noted when it was written.
    """
    journal, sums = Journal(partial, rank=0), sums_of(partial)
    for name, known in journal.noted().items():
        if name in sums and (sums[name]["bytes"], sums[name]["sha256"]) not in known:
            raise UserError(f"{partial / name} was changed while the rest was built.", "Repeat the command: it is built again.")
    for name in journal.remove():
        del sums[name]
    for name in ("log.txt", BUILD):  # no manifest lists them
        if (partial / name).exists():
            sync(partial / name)
    write_manifest(partial, sums)
    return sums


def finish(partial: Path, directory: Path, sums: Sums) -> None:
    """Give a complete artifact its name; on disk when this returns."""
    os.rename(partial, directory)
    for folder in (directory, *directory.parents)[1:5]:  # kind, task, output_dir, which may be new, and where that is
        sync(folder)
    remember(directory, sums)


def tidy(partial: Path) -> None:
    """Clean up after a failed build: keep complete blocks and checkpoints, which can be resumed; or remove everything."""
    found = [*below(partial)]
    if any(path.match("part-*.parquet") for path in found) or any(partial.glob("checkpoints/update-*")):
        for stale in (path for path in found if path.match(".*.tmp")):
            remove_tree(stale) if stale.is_dir() else stale.unlink(missing_ok=True)
        return
    _remove(partial)
    with suppress(OSError):  # not empty: other artifacts of this kind
        partial.parent.rmdir()


def _remove(partial: Path) -> None:
    with suppress(OSError):
        remove_tree(partial)


def _yaml(config: dict[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
