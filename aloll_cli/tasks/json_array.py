"""The values of a JSON array in a file of any size: the array itself is never in memory."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, TextIO

PIECE = 1 << 20  # characters that are read at a time
NEAR = 16  # characters: an error so near the end of what was read may be the cut, as in "tru"
SPACE = re.compile(r"[ \t\n\r]*")


class NotJson(ValueError):
    """What is wrong, with its line and column."""


def array_values(text: TextIO, as_object: Callable[[list[tuple[str, Any]]], Any]) -> Iterator[Any]:
    """The values, one after another; at most one of them is in memory, or a piece of the text.

    Args:
        text: begins with an array, perhaps after white space.
        as_object: makes an object of its keys and values.

    Raises:
        NotJson: it is no JSON array, or more than one. What comes before was passed on.
    """
    reader = _Reader(text, json.JSONDecoder(object_pairs_hook=as_object))
    reader.skip("[", "Expecting an array")
    if reader.next() == "]":
        reader.skip("]", "")
    else:
        yield reader.value()
        while reader.next() != "]":
            reader.skip(",", "Expecting ',' delimiter")
            yield reader.value()
        reader.skip("]", "")
    if reader.next():
        raise reader.wrong("Extra data", reader.at)


class _Reader:
    """A text, a piece of which is in memory.

    Attributes:
        piece: of the text.
        at: the place in it of what was not passed on yet.
        line, column: of its first character in the text, counted from 1 and 0.
    """

    def __init__(self, text: TextIO, decoder: json.JSONDecoder) -> None:
        self.text, self.decoder = text, decoder
        self.piece, self.at, self.line, self.column = "", 0, 1, 0

    def next(self) -> str:
        """The next character that is not white space; "" at the end."""
        while True:
            space = SPACE.match(self.piece, self.at)
            assert space is not None
            self.at = space.end()
            if self.at < len(self.piece):
                return self.piece[self.at]
            if not self._read():
                return ""

    def skip(self, sign: str, otherwise: str) -> None:
        """Pass a character; where another one is there, raise what is wrong."""
        if self.next() != sign:
            raise self.wrong(otherwise, self.at)
        self.at += 1

    def value(self) -> Any:
        """The next value."""
        self.next()
        while True:
            try:
                found, self.at = self.decoder.raw_decode(self.piece, self.at)
            except json.JSONDecodeError as error:
                is_cut = error.msg.startswith("Unterminated") or error.pos >= len(self.piece) - NEAR
                if not is_cut or not self._read():
                    raise self.wrong(error.msg, error.pos) from None
            else:
                return found

    def wrong(self, what: str, place: int) -> NotJson:
        """The error for a place in the piece."""
        line, column = self._position(place)
        return NotJson(f"{what} at line {line}, column {column + 1}")

    def _read(self) -> bool:
        """Read on, and forget what was passed; returns whether there was more."""
        more = self.text.read(max(PIECE, len(self.piece) - self.at))  # twice as much for a value that is longer than that
        if more:
            self.line, self.column = self._position(self.at)
            self.piece, self.at = self.piece[self.at :] + more, 0
        return bool(more)

    def _position(self, place: int) -> tuple[int, int]:
        breaks = self.piece.count("\n", 0, place)
        column = place - self.piece.rfind("\n", 0, place) - 1 if breaks else self.column + place
        return self.line + breaks, column
