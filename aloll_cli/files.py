"""File helpers: atomic and durable writes, checksums, JSON, and messages for a full disk."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, TextIO, cast
from uuid import uuid4

from aloll_cli.errors import UserError

WITHOUT_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}  # what a file system says that has none, as FAT
RACY = 2.0  # seconds: a file that was written so shortly before it was checked may change again without a sign
DEEPEST = 20  # folders within each other that are looked into; an artifact has at most 4


def sha256(file: Path, length: int | None = None) -> str:
    """A file's SHA-256 in hexadecimal, of its first ``length`` bytes or of all."""
    with file.open("rb") as stream:
        if length is None:
            return hashlib.file_digest(stream, "sha256").hexdigest()
        digest = hashlib.sha256()
        while length > 0 and (part := stream.read(min(length, 1 << 20))):
            digest.update(part)
            length -= len(part)
        return digest.hexdigest()


def marks_of(found: os.stat_result) -> tuple[int, ...]:
    """What changes when a file is written or replaced: size, times in ns, inode."""
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def is_racy(marks: Sequence[int]) -> bool:
    """Whether a file with these marks was written so shortly ago that it may change again and keep them."""
    return time.time() < max(marks[1:3]) / 1e9 + RACY


def read_json(file: Path) -> Any:
    """A JSON file's content."""
    return json.loads(file.read_text(encoding="utf-8"))


def near(path: Path) -> str:
    """A path as messages show it: from the current folder on where it lies in that, else whole."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def write_text(file: Path, text: str, durably: bool = False) -> None:
    """Write a file atomically, through a file beside it: a link in either place is replaced, not followed.

    Several processes may write the same file at once: one after another.

    Args:
        file: where.
        text: its content.
        durably: return once it is on disk.
    """
    temporary = file.with_name(f".{file.name}.tmp")
    with _alone(temporary) as stream:
        stream.write(text.encode("utf-8", "backslashreplace"))  # lone surrogates, of names that are no UTF-8
        stream.flush()
        if durably:
            sync(temporary)
        os.replace(temporary, file)
    if durably:
        sync(file.parent)


def write_new(file: Path, text: str) -> None:
    """Write a file that is not there yet; it is there as a whole or not at all. Raises FileExistsError."""
    temporary = file.with_name(f".{file.name}.{uuid4().hex}")
    try:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace", newline="")
        file.hardlink_to(temporary)  # unlike a rename, it fails where the file has appeared meanwhile
    except OSError as error:
        if error.errno not in WITHOUT_HARD_LINKS:
            raise
        with file.open("xb") as stream:
            stream.write(temporary.read_bytes())
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _alone(path: Path) -> Iterator[BinaryIO]:
    """An empty file that only this process writes, where the file system has locks; that of a killed process is used again."""
    while True:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENXIO):  # a symbolic link, a pipe
                raise
            path.unlink(missing_ok=True)
            continue
        with open(descriptor, "wb") as stream:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(stream, fcntl.LOCK_EX)
            if _is_own(stream, path):
                stream.truncate()
                yield stream
                return


def _is_own(stream: BinaryIO, path: Path) -> bool:
    """Whether an open file is still at a path, and nowhere else; what is no such file is removed."""
    mine = os.fstat(stream.fileno())
    with suppress(FileNotFoundError):
        if os.path.samestat(mine, path.lstat()):
            if stat.S_ISREG(mine.st_mode) and mine.st_nlink == 1:
                return True
            path.unlink()
    return False


def unnamed(near: Path) -> tuple[BinaryIO, Path]:
    """An empty, unbuffered file to write and read that has no name and is deleted when the process ends; and its folder.

    Args:
        near: a folder on the disk where it shall be; the system's temporary folder where it cannot be written to.
    """
    try:
        return cast(BinaryIO, tempfile.TemporaryFile(dir=near, buffering=0)), near
    except OSError:
        return cast(BinaryIO, tempfile.TemporaryFile(buffering=0)), Path(tempfile.gettempdir())


def open_to_append(file: Path) -> TextIO:
    """Open a text file for appending. Raises OSError (ELOOP) where a symbolic link stands in its place."""
    return open(
        file, "a", encoding="utf-8", errors="backslashreplace",
        opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666),
    )  # fmt: skip


def sync(path: Path) -> None:
    """Return once a file's content, or a folder's list of names, is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):  # a file system that cannot
            raise
    finally:
        os.close(descriptor)


def below(root: Path) -> Iterator[Path]:
    """Everything below a folder, each folder before what it holds; symbolic links are not followed.

    Folders at the depth DEEPEST are not looked into. What cannot be read is left out. os.walk and Path.rglob are recursive, the
    one before Python 3.12, the other before 3.13, and fail in a tree that somebody made deep enough.
    """
    left = [(root, 1)]
    while left:
        folder, depth = left.pop()
        with suppress(OSError), os.scandir(folder) as found:
            for entry in found:
                yield Path(entry.path)
                if depth < DEEPEST and entry.is_dir(follow_symlinks=False):
                    left.append((Path(entry.path), depth + 1))


def is_deepest(path: Path, root: Path) -> bool:
    """Whether :func:`below` does not look into a folder."""
    return len(path.parts) - len(root.parts) == DEEPEST and path.is_dir() and not path.is_symlink()


def remove_tree(root: Path) -> None:
    """Remove a folder with all that it holds, of any depth; symbolic links in it are removed, not followed."""
    left = [root]
    while left:  # shutil.rmtree is recursive before Python 3.13, and holds each folder open
        top = left.pop()
        for deepest in [path for path in below(top) if is_deepest(path, top)]:
            left.append(deepest.rename(root / f".{uuid4().hex}"))
    shutil.rmtree(root)


def sync_folders(root: Path) -> None:
    """Sync a folder's list of names and those of all folders below it, the deepest first."""
    for path in reversed([root, *below(root)]):
        if path.is_dir() and not path.is_symlink():
            sync(path)


def sync_tree(root: Path) -> None:
    """Sync every file below a folder, and the folders."""
    for path in below(root):
        if path.is_file():
            sync(path)
    sync_folders(root)


def write_json(file: Path, value: Any) -> None:
    """Write a JSON file atomically. Raises ValueError for NaN and infinity, which JSON cannot represent."""
    write_text(file, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json_lines(file: Path) -> list[Any]:
    """The values of a JSON Lines file, one per line; an empty list if there is no such file."""
    if not file.exists():
        return []
    with file.open(encoding="utf-8") as lines:  # splitlines() would also split at characters that JSON allows inside strings
        return [json.loads(line) for line in lines]


# errors that mean "disk full", and those that mean "writing is not possible here"
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
FORBIDDEN = {
    errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ELOOP, errno.ENXIO,
    errno.ENAMETOOLONG, errno.EIO,
}  # fmt: skip


def storage_trouble(error: Exception, place: Path | None = None) -> str | None:
    """Why files could not be written, as the operating system says it, or None if an error has another cause.

    safetensors and others wrap the system's error as text: ``I/O error: No space left on device (os error 28)``.

    Args:
        error: any exception.
        place: the folder written to. Permission errors elsewhere, such as on reading a user's file, do not count.
    """
    if isinstance(error, OSError) and error.errno:
        number, file = error.errno, error.filename
    elif found := re.search(r"\((?:os error|errno) (\d+)\)|\[Errno (\d+)\]", str(error)):
        number, file = int(found[1] or found[2]), None
    else:
        return None
    ours = file is None or (place is not None and str(file).startswith(str(place)))
    return os.strerror(number).lower() if number in FULL or (number in FORBIDDEN and ours) else None


def out_of_memory(error: Exception) -> UserError | None:
    """The error to show if memory ran out, of the machine or of a GPU, or None if an error has another cause."""
    on_gpu = type(error).__name__ == "OutOfMemoryError" or "CUDA out of memory" in str(error)
    if not on_gpu and not isinstance(error, MemoryError) and "DefaultCPUAllocator: can't allocate memory" not in str(error):
        return None
    what = f"{'the GPU' if on_gpu else 'the machine'} ran out of memory; finished work and the last checkpoint are kept."
    lower = "Lower micro_batch_size (training) or scoring_batch_tokens (generation, log-probs, values)"
    return UserError(what, f"{lower}, or set gradient_checkpointing=true, and repeat the command: it continues.")


def of_the_machine(error: Exception, place: Path) -> UserError | None:
    """The error to show for a full disk or memory, or None if an error has another cause."""
    return full_disk(error, place) or out_of_memory(error)


def full_disk(error: Exception, place: Path) -> UserError | None:
    """The error to show if files could not be written under a folder, or None if an error has another cause."""
    trouble = storage_trouble(error, place)
    hint = "Free some disk space and repeat the command, or set output_dir=FOLDER."
    return None if trouble is None else UserError(f"{place} cannot be written: {trouble}.", hint)


def check_current_folder() -> None:
    """Raises UserError if the current folder was deleted."""
    try:
        os.getcwd()
    except FileNotFoundError:
        raise UserError("the current folder does not exist any more.", "Change to another folder: cd FOLDER") from None


def of_the_system(error: OSError) -> UserError:
    """What to say where the operating system lets nobody read or write a file. Raises the error again where it is ours."""
    if error.errno not in FULL | FORBIDDEN:
        raise error
    what = f"{error.filename or 'a file'} cannot be read or written: {(error.strerror or str(error)).lower()}."
    return UserError(what, "Look at its permissions and at the room on its disk, then repeat the command.")


def of_a_user(error: RuntimeError, words: Sequence[str]) -> UserError:
    """What to say of ``~nosuchuser/`` in one of some words, which pathlib cannot expand. Raises any other error again."""
    if "home directory" not in str(error):
        raise error
    word = next((word for word in words if "~" in word), "a path with ~")
    hint = "Write the folder in full, or begin it with ~/ for your own home."
    return UserError(f"{word}: there is no such user on this machine.", hint)
