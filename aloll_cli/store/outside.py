"""Files outside of the store that something is built from: data, models, adapters.

A recipe holds their content as it was when the command began, and they are opened minutes or hours later. Whoever opens them does
so within :func:`unchanged`, so that nothing is built from other content than its recipe says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aloll_cli.errors import UserError
from aloll_cli.files import is_racy, marks_of, sha256

_checksums: dict[tuple[int, ...], str] = {}  # by device and marks, of files that had been at rest


def checksum(file: Path) -> str:
    """A file's SHA-256 in hexadecimal; computed again where size, times or inode are others than before."""
    before = _place(file)
    if before in _checksums:
        return _checksums[before]
    was_racy, found = is_racy(before[1:]), sha256(file)
    if not was_racy and _place(file) == before:
        _checksums[before] = found
    return found


@contextmanager
def unchanged(what: str, known: Any, content: Callable[[], Any]) -> Iterator[None]:
    """Within this context files are read that must be those of a recipe, from the first byte to the last.

    Args:
        what: the files, for the message.
        known: their content as the recipe has it.
        content: what their content is now.

    Raises:
        UserError: they were changed since the recipe was made, or while they were read. This is also said instead of an error
            that came of reading them.
    """
    _check(what, known, content)
    try:
        yield
    except Exception:
        _check(what, known, content)
        raise
    _check(what, known, content)


def _check(what: str, known: Any, content: Callable[[], Any]) -> None:
    try:
        now = content()
    except (OSError, UserError):  # they are gone
        now = None
    if now == known:
        return
    are_many = isinstance(known, dict) and isinstance(now, dict) and len(known) > 1
    names = [name for name in known if known[name] != now.get(name)] if are_many else []
    shown = f" ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})" if names else ""
    raise UserError(
        f"{what} was changed while this ran{shown}; nothing was built from it.",
        "Repeat the command. Of files that are still being written to, name a copy.",
    )


def _place(file: Path) -> tuple[int, ...]:
    found = file.stat()
    return (found.st_dev, *marks_of(found))
