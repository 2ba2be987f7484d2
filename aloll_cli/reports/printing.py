"""Text on stdout, in whatever encoding it has."""

from __future__ import annotations

from rich.text import Text

from aloll_cli.runtime.terminal import results


def prose(text: str) -> Text:
    """Running text, which is wrapped."""
    return Text(_encodable(text), overflow="fold")


def line(text: str, style: str = "") -> Text:
    """Text of ours, in ASCII where stdout is not a terminal."""
    watched = results.is_terminal and results.encoding.startswith("utf")
    return Text(_encodable(text if watched else _ascii(text)), style=style)


def _ascii(text: str) -> str:
    for symbol, plain in {"±": "+/-", "²": "2", "…": "..."}.items():
        text = text.replace(symbol, plain)
    return text


def _encodable(text: str) -> str:
    """Escape characters that the terminal's encoding lacks, instead of raising an error."""
    return text.encode(results.encoding, "backslashreplace").decode(results.encoding)


def say(text: str) -> None:
    """Print a line of text, wrapped on a terminal, not wrapped in a pipe."""
    results.print(line(text), soft_wrap=not results.is_terminal)
