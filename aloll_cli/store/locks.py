"""Locks: one file per artifact in ``outputs/<task>/.locks/``, held by the process that builds the artifact.

The files are never removed: removing one that another process has just opened would let two processes hold the lock. The
operating system releases a lock when its process ends, however that happens.
"""

from __future__ import annotations

import fcntl
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from errno import ENOLCK, ENOSYS, ENOTSUP, EOPNOTSUPP, errorcode
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout

from aloll_cli.errors import UserError
from aloll_cli.files import write_text
from aloll_cli.foreign import Unreadable, read_bytes
from aloll_cli.visible import one_line

FOLDER = ".locks"
WITHOUT_LOCKS = {ENOLCK, ENOSYS, ENOTSUP, EOPNOTSUPP}


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
        except (OSError, NotImplementedError) as error:  # the second by older versions of filelock, without locks
            found = error if isinstance(error, OSError) else OSError(ENOSYS, os.strerror(ENOSYS))
            raise _not_writable(found, self._file.parents[1]) from None
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
        """The process that holds the lock, if it is known; of a lock that outlives its process also how to remove it."""
        try:
            found = one_line(read_bytes(self._holder, 1000).decode("utf-8", "replace")) or "another process"
        except (OSError, Unreadable):  # the process has just released it
            found = "another process"
        if _can_lock(self._file.parent):
            return found
        remove = shlex.join(["rm", str(self._file)])
        return f"{found} (this file system keeps the lock of a process that was killed; if that is gone: {remove})"

    def release(self) -> None:
        """Release the lock."""
        self._holder.unlink(missing_ok=True)
        self._lock.release()


class Presence:
    """A shared lock on a task's folder while the process lives: ``aloll clean`` must not remove what it may be reading."""

    def __init__(self, root: Path) -> None:
        with suppress(OSError):  # read-only, where nothing can be removed, or without locks; building will raise the error
            self._stream = _open_presence(root)
            fcntl.flock(self._stream, fcntl.LOCK_SH)


@contextmanager
def alone_in(root: Path) -> Iterator[None]:
    """An exclusive lock on a task's folder. Raises UserError if another process uses it."""
    try:
        stream = _open_presence(root)
    except OSError as error:
        raise _not_writable(error, root) from None
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another command is using {root}.", "Wait until it has finished, then repeat the command.") from None
        except OSError as error:
            raise _not_writable(error, root) from None
        yield


def _open_presence(root: Path) -> IO[bytes]:
    _folder(root).mkdir(parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK
    return open(os.open(_folder(root) / "presence", flags, 0o666), "ab")


def _can_lock(folder: Path) -> bool:
    """Whether the operating system locks files there and releases them when a process ends; else filelock has marker files."""
    try:
        with _open_presence(folder.parent) as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return True


def _folder(root: Path) -> Path:
    return root / FOLDER


def _not_writable(error: OSError, root: Path) -> UserError:
    if error.errno in WITHOUT_LOCKS:
        what = f"{root} is on a file system that cannot lock files: {(error.strerror or '').lower()} ({errorcode[error.errno]})."
        return UserError(what, "Set output_dir=FOLDER to another place; on NFS, mount with its lock service or local_lock.")
    reason = (error.strerror or str(error)).lower()
    return UserError(f"output_dir: {error.filename or _folder(root)} cannot be written: {reason}.", "output_dir=FOLDER")
