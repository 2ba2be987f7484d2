"""Remove unreferenced artifacts, after listing them and asking."""

from __future__ import annotations

import sys
from pathlib import Path

from aloll_cli.files import below, is_deepest
from aloll_cli.runtime.terminal import notes, results
from aloll_cli.settings.root import Settings
from aloll_cli.store.inventory import State, entries, size, strangers, table, unused
from aloll_cli.store.manifest import strays
from aloll_cli.store.marker import MARK, is_marked
from aloll_cli.store.removal import removed
from aloll_cli.store.store import Store
from aloll_cli.visible import one_line

LISTED = 20  # at most, of what is not ours


def run(settings: Settings, store: Store) -> None:
    """List the unreferenced artifacts, ask (unless ``ask=false``) and remove them.

    Policies and evaluations are kept, also interrupted ones, with every artifact that they were built from. So is what this
    program did not write, which is listed: whatever is behind a symbolic link, has no recipe that its name is the fingerprint of,
    or lies in a folder without our mark.

    Raises:
        UserError: another command is using the folder of one of the tasks.
    """
    if not store.world.is_main:
        return
    output_dir = Path(settings.output_dir).expanduser()
    found = entries(output_dir)
    doomed = unused(found)
    kept = {entry.path: strays(entry.path) for entry in doomed}
    doomed = [entry for entry in doomed if not kept[entry.path]]
    foreign = [entry.path for entry in found if entry.state is State.foreign]
    _list_others(store, [*foreign, *strangers(output_dir, found), *(path for paths in kept.values() for path in paths)])
    for line in table(doomed, found):
        results.print(line, markup=False)
    for empty in _empty_folders(output_dir / ".sweeps"):
        empty.rmdir()
    if not doomed:
        store.log.say("no unreferenced artifacts: each one is a policy or an evaluation, or one was built from it")
        return
    if not is_marked(output_dir):
        store.log.say(f"{output_dir} has no {MARK}, which marks a folder that aloll may remove things from; nothing was removed.")
        store.log.say("Any command that builds or uses an artifact there, such as aloll train, marks it.")
        return
    total = size(sum(entry.bytes for entry in doomed))
    if settings.ask and not _agreed(f"Remove {len(doomed)} unreferenced artifacts ({total})? [y/N] "):
        said = f"{len(doomed)} unreferenced artifacts ({total}); nothing was removed"
        store.log.say(f"{said}. To remove without asking: {store.command.but('clean', 'ask')} ask=false")
        return
    # another command may have run in the meantime
    for entry in removed(doomed, lambda: {one.path for one in unused(entries(output_dir))}, store.stopper):
        store.log.say(f"removed {entry.path}: {size(entry.bytes)}")


def _list_others(store: Store, others: list[Path]) -> None:
    others = sorted({path for path in others if not set(path.parents) & set(others)})  # of nested ones the outermost
    for path in others[:LISTED]:
        store.log.say(f"not ours, kept: {one_line(str(path))}")
    if len(others) > LISTED:
        store.log.say(f"not ours, kept: {len(others) - LISTED} more")


def _agreed(question: str) -> bool:
    try:
        return sys.stdin.isatty() and notes.input(question, markup=False).strip().lower() in ("y", "yes")
    except EOFError:
        return False


def _empty_folders(root: Path) -> list[Path]:
    """The folders under ``root``, deepest first, if sweeps left no file in any of them; else none."""
    found = [*below(root)] if root.is_dir() and not root.is_symlink() else None
    if found is None or any(not path.is_dir() or path.is_symlink() or is_deepest(path, root) for path in found):
        return []
    return [*reversed(found), root]
