"""Who is making what: one lock file an artifact, in ``outputs/<task>/.locks/``.

The files stay: removing one that another process has just opened would let two processes hold "the" lock.
"""

from __future__ import annotations

import os
from pathlib import Path

from filelock import FileLock, Timeout

from aloll_cli.errors import UserError

FOLDER = ".locks"


class ArtifactLock:
    """The right to make one artifact. It ends with the process, however that ends."""

    def __init__(self, root: Path, folder: str) -> None:
        """Of the artifact ``folder`` of the task folder ``root``."""
        file = root / FOLDER / folder.replace("/", "-")
        self._lock = FileLock(file.with_name(f"{file.name}.lock"))
        self._holder = file.with_name(f"{file.name}.holder")

    def try_acquire(self) -> bool:
        """Take the lock if nobody has it. Raises UserError where there is no place to write."""
        try:
            self._holder.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
            self._holder.write_text(f"process {os.getpid()} on {os.uname().nodename}")
        except Timeout:
            return False
        except OSError as error:
            raise UserError(f"output_dir: {error.filename} cannot be written: {error.strerror}.", "output_dir=FOLDER") from None
        return True

    def holder(self) -> str:
        """The process that has it, as far as it has said so."""
        return self._holder.read_text() if self._holder.exists() else "another process"

    def release(self) -> None:
        """Give it back."""
        self._holder.unlink(missing_ok=True)
        self._lock.release()
