"""Check every checksum under the output folder, and remove what is damaged where the user says so."""

from __future__ import annotations

from pathlib import Path

from aloll_cli.errors import UserError
from aloll_cli.runtime.terminal import results
from aloll_cli.settings.root import Settings
from aloll_cli.store.inventory import Entry, State, entries, is_torn, size, users
from aloll_cli.store.journal import Journal, is_as_noted
from aloll_cli.store.manifest import Damage, damages, strays
from aloll_cli.store.marker import MARK, is_marked
from aloll_cli.store.places import PARTIAL
from aloll_cli.store.removal import removed
from aloll_cli.store.store import Store
from aloll_cli.training.checkpoints import folders
from aloll_cli.training.progress import damage_of_checkpoint
from aloll_cli.visible import one_line


def run(settings: Settings, store: Store) -> None:
    """Print everything that is damaged; with ``repair=true`` remove it, and what was built from it.

    Of unfinished artifacts the checkpoints and blocks are checked; damaged ones among them are passed over when the artifact is
    built, so only an artifact whose recipe is lost is removed for them.

    Raises:
        UserError: something is damaged, and stays; or another command is using the folder of one of the tasks.
    """
    if not store.world.is_main:
        return
    output_dir = Path(settings.output_dir).expanduser()
    found = [entry for entry in entries(output_dir) if entry.state not in (State.foreign, State.busy)]
    broken: list[Entry] = []
    checked = 0
    for entry in found:
        store.stopper.check()
        wrong = _wrong(entry)
        checked += entry.bytes
        for what in wrong:
            results.print(one_line(f"{entry.path}: {what}"), markup=False)
        if wrong and (entry.path.suffix != ".partial" or entry.inputs is None):
            broken.append(entry)
    said = f"{len(found)} artifacts, {size(checked)}: {len(broken) or 'none'} damaged"
    doomed = [
        entry
        for entry in _with_users(broken, found)
        if (entry.inputs is not None or is_torn(entry.path)) and not strays(entry.path)
    ]
    for entry in doomed:
        if entry not in broken:
            results.print(one_line(f"{entry.path}: was built from a damaged artifact"), markup=False)
    if not broken:
        store.log.say(said)
        return
    if not settings.repair:
        total = size(sum(entry.bytes for entry in doomed))
        hint = f"Remove {len(doomed)} artifacts ({total}): {store.command.but('verify', 'repair')} repair=true"
        raise UserError(f"{said}.", hint)
    if not is_marked(output_dir):
        what = f"{output_dir} has no {MARK}, which marks a folder that aloll may remove things from."
        raise UserError(what, "Remove what is damaged by hand.")
    for entry in removed(doomed, lambda: {one.path for one in doomed}, store.stopper):
        store.log.say(f"removed {entry.path}: {size(entry.bytes)}")
    left = [entry for entry in broken if entry not in doomed]
    if left:
        names = ", ".join(one_line(str(entry.path)) for entry in left)
        what = f"{names}: not removed, for it has no recipe of aloll, or holds files that aloll did not write."
        raise UserError(what, "Look at it, and remove it by hand.")


def _wrong(entry: Entry) -> list[str]:
    """Everything that is wrong with an artifact, complete or not."""
    lost = [] if entry.inputs is not None else ["its recipe.json cannot be read"]
    if entry.path.suffix == ".partial":
        return lost + [damage.what for damage in _unfinished(entry.path)]
    return lost + [damage.what for damage in damages(entry.path, trusting=False)]


def _unfinished(partial: Path) -> list[Damage]:
    """What is wrong with the blocks and checkpoints of an unfinished artifact."""
    blocks = Journal(partial, rank=0).noted().items()
    torn = [name for name, noted in blocks if (partial / name).exists() and not is_as_noted(partial / name, noted)]
    checkpoints = [
        Damage(f"{folder.relative_to(partial)}: {damage}")
        for folder in folders(partial / "checkpoints").values()
        if (damage := damage_of_checkpoint(partial, folder)) is not None
    ]
    return [Damage(f"{name} was changed (its checksum differs)") for name in sorted(torn)] + checkpoints


def _with_users(broken: list[Entry], found: list[Entry]) -> list[Entry]:
    """Some artifacts, and those that were built from them, directly or not."""
    using, chosen = users(found), dict.fromkeys(entry.path for entry in broken)
    left = [entry for entry in broken if entry.path.suffix != PARTIAL]  # from an unfinished one nothing was built
    while left:
        entry = left.pop()
        for user in using[entry.fingerprint]:
            if user.path not in chosen and user.root == entry.root:
                chosen[user.path] = None
                left.append(user)
    return [entry for entry in found if entry.path in chosen]
