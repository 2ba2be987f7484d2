"""Replies of a server that were paid for, kept in one file per task by what was asked.

Each reply is one line, written at once and synced before it counts as there. A killed process loses what was under way alone;
a line that is torn or damaged counts as not there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from aloll_cli.files import sync
from aloll_cli.foreign import Unreadable, integer, optional, parsed, record, text
from aloll_cli.runtime.chat_server import Reply
from aloll_cli.store.marker import refuse_links

FOLDER = "replies"  # in a task's folder
LINE = record(
    {"key": text, "text": text, "why": text, "prompt_tokens": optional(integer), "completion_tokens": optional(integer)}
)


class Ledger:
    """The replies to requests of one server."""

    def __init__(self, file: Path) -> None:
        """Open a file, which is created with its folder.

        Raises:
            UserError: a symbolic link stands in the place of the folder.
            OSError: it cannot be written; ELOOP where it is a symbolic link.
        """
        refuse_links(file.parent)
        is_new = not file.exists()
        file.parent.mkdir(parents=True, exist_ok=True)
        self._file = file
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
        self._descriptor = os.open(file, flags, 0o666)
        if is_new:
            sync(file.parent)
        self._end_last_line()

    def replies(self, wanted: Iterable[str]) -> dict[str, Reply]:
        """The replies to some requests, by key, where they are there."""
        keys, found = set(wanted), dict[str, Reply]()
        with self._file.open("rb") as lines:
            for line in lines:
                with suppress(Unreadable):
                    entry = parsed(line)
                    LINE(entry, "")
                    if entry["key"] in keys:
                        found[entry["key"]] = _reply(entry)
        return found

    def add(self, key: str, reply: Reply) -> None:
        """Keep a reply; on disk when this returns."""
        line = (json.dumps({"key": key} | vars(reply)) + "\n").encode()
        written = os.write(self._descriptor, line)  # in one piece, also beside other processes
        if written != len(line):
            raise OSError(28, os.strerror(28), str(self._file))
        os.fsync(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)

    def _end_last_line(self) -> None:
        """What a power cut tore must not swallow the next line."""
        size = os.fstat(self._descriptor).st_size
        if size and os.pread(self._descriptor, 1, size - 1) != b"\n":
            os.write(self._descriptor, b"\n")


def _reply(entry: dict[str, Any]) -> Reply:
    return Reply(entry["text"], entry["why"], entry["prompt_tokens"], entry["completion_tokens"])
