"""Who is making what: one lock file an artifact, in ``outputs/<task>/.locks/``.

The files stay: removing one that another process has just opened would let two processes hold "the" lock. Every lock ends
with the process that holds it, however that ends.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout

from aloll_cli.errors import UserError

FOLDER = ".locks"


class ArtifactLock:
    """The right to make one artifact."""

    def __init__(self, root: Path, folder: str) -> None:
        """Of the artifact ``folder`` of the task folder ``root``."""
        self._name = _folder(root) / folder.replace("/", "-")
        self._file = self._name.with_name(f"{self._name.name}.lock")
        self._holder = self._name.with_name(f"{self._name.name}.holder")
        self._lock = FileLock(self._file)

    def try_acquire(self, patience: float = 0) -> bool:
        """Take the lock if nobody has it for so many seconds. Raises UserError where there is no place to write."""
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=patience)
            self._holder.write_text(f"process {os.getpid()} on {os.uname().nodename}")
        except Timeout:
            return False
        except OSError as error:
            raise _no_place(error, self._file.parents[1]) from None
        return True

    def is_held(self) -> bool:
        """Whether somebody is making the artifact now."""
        if not self._file.exists():
            return False
        try:
            with self._lock.acquire(timeout=0):
                return False
        except Timeout:
            return True

    def holder(self) -> str:
        """The process that has it, as far as it has said so."""
        try:
            return self._holder.read_text() or "another process"
        except FileNotFoundError:  # it has just ended
            return "another process"

    def release(self) -> None:
        """Give it back."""
        self._holder.unlink(missing_ok=True)
        self._lock.release()


class Presence:
    """Tells others, as long as the process lives, that it may use any artifact of a task's folder."""

    def __init__(self, root: Path) -> None:
        with suppress(OSError):  # a folder that cannot be written to cannot be cleaned either; making will complain
            self._stream = _open_presence(root)
            fcntl.flock(self._stream, fcntl.LOCK_SH)


@contextmanager
def alone_in(root: Path) -> Iterator[None]:
    """Nobody else uses the artifacts of a task's folder while this lasts. Raises UserError where somebody does."""
    with _open_presence(root) as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another command is using {root}.", "Wait for it, and repeat the command.") from None
        yield


def _open_presence(root: Path) -> IO[bytes]:
    _folder(root).mkdir(parents=True, exist_ok=True)
    return (_folder(root) / "presence").open("ab")


def _folder(root: Path) -> Path:
    return root / FOLDER


def _no_place(error: OSError, root: Path) -> UserError:
    reason = (error.strerror or str(error)).lower()
    return UserError(f"output_dir: {error.filename or _folder(root)} cannot be written: {reason}.", "output_dir=FOLDER")
