"""Remove unreferenced artifacts, after listing them and asking."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from aloll_cli.errors import UserError
from aloll_cli.runtime.terminal import notes, results
from aloll_cli.settings.root import Settings
from aloll_cli.stopping import Stopper
from aloll_cli.store.inventory import Entry, entries, size, table, unused
from aloll_cli.store.locks import alone_in
from aloll_cli.store.store import Store


def run(settings: Settings, store: Store) -> None:
    """List the unreferenced artifacts, ask (unless ``ask=false``) and remove them.

    Policies and evaluations are kept, also interrupted ones, with every artifact that they were built from.

    Raises:
        UserError: another command is using the folder of one of the tasks.
    """
    if not store.world.is_main:
        return
    output_dir = Path(settings.output_dir).expanduser()
    found = entries(output_dir)
    doomed = unused(found)
    for line in table(doomed, found):
        results.print(line, markup=False)
    for empty in _empty_folders(output_dir / ".sweeps"):
        empty.rmdir()
    if not doomed:
        store.log.say("no unreferenced artifacts: each one is a policy or an evaluation, or one was built from it")
        return
    total = size(sum(entry.bytes for entry in doomed))
    if settings.ask and not _agreed(f"Remove {len(doomed)} unreferenced artifacts ({total})? [y/N] "):
        said = f"{len(doomed)} unreferenced artifacts ({total}); nothing was removed"
        store.log.say(f"{said}. To remove without asking: {store.command.but('clean', 'ask')} ask=false")
        return
    for entry in _removed(doomed, output_dir, store.stopper):
        store.log.say(f"removed {entry.path}: {size(entry.bytes)}")


def _agreed(question: str) -> bool:
    try:
        return sys.stdin.isatty() and notes.input(question, markup=False).strip().lower() in ("y", "yes")
    except EOFError:
        return False


def _removed(doomed: list[Entry], output_dir: Path, stopper: Stopper) -> Iterator[Entry]:
    """Remove artifacts one by one; yields each after its removal."""
    for root in dict.fromkeys(entry.root for entry in doomed):
        with alone_in(root):
            for left_by_a_kill in root.glob("*/.*.removed"):
                shutil.rmtree(left_by_a_kill)
            still = {entry.path for entry in unused(entries(output_dir))}  # another command may have run in the meantime
            for entry in (entry for entry in doomed if entry.root == root and entry.path in still):
                stopper.check()
                lock = entry.lock()
                if not lock.try_acquire():
                    raise UserError(f"{entry.path} is being built by {lock.holder()}.", "Wait for it, and repeat the command.")
                try:
                    # the rename is atomic: if this is killed, no other command sees a half-removed artifact
                    shutil.rmtree(entry.path.rename(entry.path.with_name(f".{entry.path.name}.removed")))
                finally:
                    lock.release()
                yield entry


def _empty_folders(root: Path) -> list[Path]:
    """The folders under ``root``, deepest first, if sweeps left no file in any of them; else none."""
    if not root.is_dir() or any(file.is_file() for file in root.rglob("*")):
        return []
    return [*sorted((folder for folder in root.rglob("*") if folder.is_dir()), reverse=True), root]
