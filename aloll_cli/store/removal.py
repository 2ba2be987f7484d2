"""Removing artifacts: only our own, each by one rename first, so that no command sees half of one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from aloll_cli.errors import UserError
from aloll_cli.files import remove_tree
from aloll_cli.stopping import Stopper
from aloll_cli.store.inventory import REMOVED, Entry, has_own_recipe
from aloll_cli.store.locks import FOLDER as LOCKS
from aloll_cli.store.locks import alone_in
from aloll_cli.store.marker import refuse_links


def removed(doomed: list[Entry], still: Callable[[], set[Path]], stopper: Stopper) -> Iterator[Entry]:
    """Remove artifacts one by one; yields each after its removal.

    Args:
        doomed: what to remove.
        still: the folders that are still to be removed, asked once per task when no other command uses it.
        stopper: ends the work between two of them.

    Raises:
        UserError: another command is using the folder of one of the tasks.
    """
    for root in dict.fromkeys(entry.root for entry in doomed):
        refuse_links(root, root / LOCKS, within=root / LOCKS)
        with alone_in(root):
            for kind in {entry.path.parent for entry in doomed if entry.root == root}:
                _finish_removals(kind)
            paths = still()
            for entry in (entry for entry in doomed if entry.root == root and entry.path in paths):
                stopper.check()
                lock = entry.lock()
                if not lock.try_acquire():
                    raise UserError(f"{entry.path} is being built by {lock.holder()}.", "Wait for it, and repeat the command.")
                try:
                    _remove(entry.path.rename(entry.path.with_name(f".{entry.path.name}.removed")))
                finally:
                    lock.release()
                yield entry


def _finish_removals(kind: Path) -> None:
    """Remove what a killed process had begun to remove."""
    for path in kind.iterdir():
        if (found := REMOVED.fullmatch(path.name)) and path.is_dir() and not path.is_symlink():
            if has_own_recipe(path, found["fingerprint"]):
                _remove(path)
            elif not any(path.iterdir()):
                path.rmdir()


def _remove(folder: Path) -> None:
    """Remove a folder, its recipe last: until then it is known to be ours. Links in it are removed, not followed."""
    for path in sorted(folder.iterdir(), key=lambda path: path.name == "recipe.json"):
        remove_tree(path) if path.is_dir() and not path.is_symlink() else os.unlink(path)
    folder.rmdir()
