"""Where artifacts are: looked up by their fingerprint."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from aloll_cli.errors import UserError

if TYPE_CHECKING:
    from aloll_cli.store.store import Artifact

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
