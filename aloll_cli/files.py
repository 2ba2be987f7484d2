"""File helpers: atomic writes, checksums, JSON, and messages for a full disk."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aloll_cli.errors import UserError


def sha256(file: Path) -> str:
    """A file's SHA-256 in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_json(file: Path) -> Any:
    """A JSON file's content."""
    return json.loads(file.read_text(encoding="utf-8"))


def near(path: Path) -> str:
    """A path as messages show it: from the current folder on where it lies in that, else whole."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def write_text(file: Path, text: str) -> None:
    """Write a file atomically."""
    temporary = file.with_name(f".{file.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, file)


def write_json(file: Path, value: Any) -> None:
    """Write a JSON file atomically. Raises ValueError for NaN and infinity, which JSON cannot represent."""
    write_text(file, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def cut_back(file: Path, keep: Callable[[Any], bool]) -> None:
    """Truncate a JSON Lines file before the first line that is incomplete or that ``keep`` rejects; atomic."""
    kept = []
    for line in file.open(encoding="utf-8") if file.exists() else ():
        if not line.endswith("\n") or not keep(json.loads(line)):
            break  # a killed process may have written part of the last line
        kept.append(line)
    write_text(file, "".join(kept))


def read_json_lines(file: Path) -> list[Any]:
    """The values of a JSON Lines file, one per line; an empty list if there is no such file."""
    if not file.exists():
        return []
    with file.open(encoding="utf-8") as lines:  # splitlines() would also split at characters that JSON allows inside strings
        return [json.loads(line) for line in lines]


# errors that mean "disk full", and those that mean "writing is not possible here"
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
FORBIDDEN = {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EIO}


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


def full_disk(error: Exception, place: Path) -> UserError | None:
    """The error to show if files could not be written under a folder, or None if an error has another cause."""
    trouble = storage_trouble(error, place)
    hint = "Free some disk space and repeat the command, or set output_dir=FOLDER."
    return None if trouble is None else UserError(f"{place} cannot be written: {trouble}.", hint)
