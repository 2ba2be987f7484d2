"""What stands between a prompt that is plain text and its response."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum

from aloll_cli.metrics.words import LETTERS, letter_shares, writes_spaces


class Seam(Enum):
    """What is put between a prompt that is text and the response."""

    auto = "a space, but none where there is white space already or the script has no spaces between words"
    space = "always a space"
    none = "nothing: the data hold what belongs there"


def between(prompt: str, response: str, seam: Seam, spaced: Callable[[], bool]) -> str:
    """What to put between a prompt and its response: a space or nothing.

    Args:
        prompt: the prompt.
        response: the response; a space belongs to it, as tokenizers expect.
        seam: the choice.
        spaced: whether the script of the data has spaces between words; asked where the characters at the seam do not tell.
    """
    if seam is not Seam.auto:
        return " " if seam is Seam.space else ""
    before, after = prompt[-1:], response[:1]
    if not before or not after or before.isspace() or after.isspace():
        return ""
    sides = {writes_spaces(before), writes_spaces(after)}
    if False in sides:
        return ""
    return " " if sides == {True} or spaced() else ""


def script_has_spaces(texts: Sequence[str]) -> bool:
    """Whether at most half of the letters of texts are of scripts without spaces between words (Chinese, Japanese, Thai, …)."""
    shares = letter_shares([texts])
    return shares[LETTERS[1]] + shares[LETTERS[2]] <= 0.5
