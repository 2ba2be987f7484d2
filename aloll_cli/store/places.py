"""Where artifacts are: looked up by their fingerprint, and runs by their name."""

from __future__ import annotations

import difflib
import time
from pathlib import Path
from typing import TYPE_CHECKING

from aloll_cli.errors import UserError

if TYPE_CHECKING:
    from aloll_cli.store.store import Artifact

KINDS = ("metrics", "policy")  # of artifacts that are a run; an evaluation comes first
LISTED = 3  # names that a message proposes at most
PARTIAL = ".partial"  # ends the name of a folder in which an artifact is being built
LATE = 90.0  # seconds after which a new name is seen on every machine; NFS remembers for up to 60 that there was none


def seen(folder: Path) -> Path:
    """A folder that the first process has made, which may be another machine's.

    Raises:
        UserError: this machine does not see it.
    """
    end = time.monotonic() + LATE
    while not folder.exists():
        if time.monotonic() > end:
            what = f"{folder.absolute()} was made by the first process, and cannot be seen on this machine."
            raise UserError(what, "Set output_dir=FOLDER to a folder that all machines share.")
        time.sleep(0.2)
    return folder


def path_of(artifact: Artifact, root: Path) -> Path:
    """Where an artifact is, or will be, in a task's folder.

    The fingerprint decides: a folder is called as the artifact was when it was built, and a model, say, is called by its
    own folder, which may have been another copy.
    """
    own = root / artifact.folder
    if own.exists():
        return own
    others = sorted((root / artifact.kind).glob(f"*-{artifact.fingerprint}*"))
    found = {
        path.name.removesuffix(PARTIAL): path for path in others if path.name.removesuffix(PARTIAL).endswith(artifact.fingerprint)
    }
    return own.with_name(next(iter(found), own.name))


def run_folder(name: str, output_dir: str) -> Path:
    """The folder of the run with a name, or with a fingerprint.

    Raises:
        UserError: there is none, or several.
    """
    root = Path(output_dir).expanduser()
    for kind in KINDS:
        there = [path for path in sorted(root.glob(f"*/{kind}/*")) if path.suffix != PARTIAL]
        found = [path for path in there if path.name == name or path.name.rpartition("-")[2] == name]
        if len(found) > 1:
            raise UserError(f"run={name}: there are several of that name.", f"run={found[0]} or run={found[1]}")
        if found:
            return found[0]
    names = [path.name for path in root.glob("*/metrics/*") if path.suffix != PARTIAL]
    close = [one for one in names if one.startswith(name)] or difflib.get_close_matches(name, names, n=LISTED, cutoff=0.5)
    meant = f"Did you mean run={' or run='.join(close[:LISTED])}? " if close else ""
    raise UserError(f"run={name}: there is no such run under {root}.", f"{meant}aloll runs lists them.")
