"""Locks: one file per artifact in ``outputs/<task>/.locks/``, held by the process that builds the artifact.

The files are never removed: removing one that another process has just opened would let two processes hold the lock. The
operating system releases a lock when its process ends, however that happens.
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
from aloll_cli.files import write_text

FOLDER = ".locks"


class ArtifactLock:
    """The lock of one artifact."""

    def __init__(self, root: Path, folder: str) -> None:
        """The lock of the artifact ``folder`` in the task folder ``root``."""
        self._name = _folder(root) / folder.replace("/", "-")
        self._file = self._name.with_name(f"{self._name.name}.lock")
        self._holder = self._name.with_name(f"{self._name.name}.holder")
        self._lock = FileLock(self._file)

    def try_acquire(self, timeout: float = 0) -> bool:
        """Acquire the lock within so many seconds; returns whether it was. Raises UserError if the folder is not writable."""
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=timeout)
            write_text(self._holder, f"process {os.getpid()} on {os.uname().nodename}")
        except Timeout:
            return False
        except OSError as error:
            raise _not_writable(error, self._file.parents[1]) from None
        return True

    def is_held(self) -> bool:
        """Whether a process is building the artifact now."""
        if not self._file.exists():
            return False
        try:
            with self._lock.acquire(timeout=0):
                return False
        except Timeout:
            return True
        except OSError:  # a link in its place, or a file system without locks
            return False

    def holder(self) -> str:
        """The process that holds the lock, if it is known."""
        try:
            return self._holder.read_text() or "another process"
        except FileNotFoundError:  # the process has just released it
            return "another process"

    def release(self) -> None:
        """Release the lock."""
        self._holder.unlink(missing_ok=True)
        self._lock.release()


class Presence:
    """A shared lock on a task's folder while the process lives: ``aloll clean`` must not remove what it may be reading."""

    def __init__(self, root: Path) -> None:
        with suppress(OSError):  # nothing can be removed from a read-only folder; building will raise the error
            self._stream = _open_presence(root)
            fcntl.flock(self._stream, fcntl.LOCK_SH)


@contextmanager
def alone_in(root: Path) -> Iterator[None]:
    """An exclusive lock on a task's folder. Raises UserError if another process uses it."""
    with _open_presence(root) as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another command is using {root}.", "Wait until it has finished, then repeat the command.") from None
        yield


def _open_presence(root: Path) -> IO[bytes]:
    _folder(root).mkdir(parents=True, exist_ok=True)
    return (_folder(root) / "presence").open("ab")


def _folder(root: Path) -> Path:
    return root / FOLDER


def _not_writable(error: OSError, root: Path) -> UserError:
    reason = (error.strerror or str(error)).lower()
    return UserError(f"output_dir: {error.filename or _folder(root)} cannot be written: {reason}.", "output_dir=FOLDER")
