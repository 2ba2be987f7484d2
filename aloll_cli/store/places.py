"""Where artifacts are: looked up by their fingerprint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aloll_cli.store.store import Artifact

PARTIAL = ".partial"  # ends the name of a folder in which an artifact is being built


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
