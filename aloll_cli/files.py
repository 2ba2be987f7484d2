"""Small helpers for files: whole or not at all, and known by their content."""

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


def write_text(file: Path, text: str) -> None:
    """Write a file whole or not at all."""
    beside = file.with_name(f".{file.name}.tmp")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, file)


def write_json(file: Path, value: Any) -> None:
    """Write a JSON file whole or not at all; refuses NaN and infinity, which JSON has not."""
    write_text(file, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def cut_back(file: Path, keep: Callable[[Any], bool]) -> None:
    """Keep the first lines of a JSON Lines file, as far as they are whole and wanted; replaces the file whole."""
    kept = []
    for line in file.open(encoding="utf-8") if file.exists() else ():
        if not line.endswith("\n") or not keep(json.loads(line)):
            break  # a kill may have torn the last line
        kept.append(line)
    write_text(file, "".join(kept))


def read_json_lines(file: Path) -> list[Any]:
    """One value a line; nothing where the file is not there."""
    if not file.exists():
        return []
    with file.open(encoding="utf-8") as lines:  # not splitlines(), which also ends lines at characters that JSON allows
        return [json.loads(line) for line in lines]


# a full disk, and what else keeps a file from being written where others could
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
FORBIDDEN = {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EIO}


def storage_trouble(error: Exception, place: Path | None = None) -> str | None:
    """What keeps files from being written, in the operating system's words, or None where an error is about something else.

    safetensors and others pass the system's error on as text: ``I/O error: No space left on device (os error 28)``.

    Args:
        error: whatever was raised.
        place: where we write. What is forbidden elsewhere, such as to read a user's file, is another matter.
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
    """The error to show where files could not be written under a folder, or None where that was not the trouble."""
    trouble = storage_trouble(error, place)
    hint = "Make room and repeat the command, or choose output_dir=FOLDER."
    return None if trouble is None else UserError(f"{place} cannot be written: {trouble}.", hint)
