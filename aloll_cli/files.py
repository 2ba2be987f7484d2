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


def sha256(file: Path) -> str:
    """A file's SHA-256 in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_json(file: Path) -> Any:
    """A JSON file's content."""
    return json.loads(file.read_text(encoding="utf-8"))


def write_json(file: Path, value: Any) -> None:
    """Write a JSON file whole or not at all."""
    beside = file.with_name(f".{file.name}.tmp")
    beside.write_text(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(beside, file)


def cut_back(file: Path, keep: Callable[[Any], bool]) -> None:
    """Keep the first lines of a JSON Lines file, as far as they are whole and wanted; replaces the file whole."""
    kept = []
    for line in file.open(encoding="utf-8") if file.exists() else ():
        if not line.endswith("\n") or not keep(json.loads(line)):
            break  # a kill may have torn the last line
        kept.append(line)
    beside = file.with_name(f".{file.name}.tmp")
    beside.write_text("".join(kept), encoding="utf-8")
    os.replace(beside, file)


def read_json_lines(file: Path) -> list[Any]:
    """One value a line; nothing where the file is not there."""
    if not file.exists():
        return []
    with file.open(encoding="utf-8") as lines:  # not splitlines(), which also ends lines at characters that JSON allows
        return [json.loads(line) for line in lines]


STORAGE = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.ENOTDIR,
    errno.ENAMETOOLONG,
    errno.EIO,
}


def storage_trouble(error: Exception) -> str | None:
    """What the operating system has against writing, in its words, or None where an error is about something else.

    safetensors and others pass the system's error on as text: ``I/O error: No space left on device (os error 28)``.
    """
    found = re.search(r"\((?:os error|errno) (\d+)\)|\[Errno (\d+)\]", str(error))
    number = error.errno if isinstance(error, OSError) and error.errno else int(found[1] or found[2]) if found else None
    return os.strerror(number).lower() if number in STORAGE else None
