"""Absurdly long words, which a tokenizer's training takes quadratic time for: a million letters, minutes."""

from __future__ import annotations

import re

LONGEST = 1000  # characters of a word that is left whole

# words as byte-level tokenizers see them: letters, digits, other characters, or white space
WORD = re.compile(rf"[^\W\d_]{{{LONGEST},}}|\d{{{LONGEST},}}|(?:[^\w\s]|_){{{LONGEST},}}|\s{{{LONGEST},}}")


def has_long_word(text: str) -> bool:
    """Whether a text contains a word of LONGEST or more characters."""
    return len(text) >= LONGEST and WORD.search(text) is not None


def without_long_words(text: str) -> list[str]:
    """The text in pieces, of which none has a word of more than LONGEST characters; whole if it has no such word."""
    if not has_long_word(text):
        return [text]
    pieces, start = [], 0
    for word in WORD.finditer(text):
        cuts = [*range(word.start(), word.end(), LONGEST), word.end()]
        pieces += [text[first:last] for first, last in zip([start, *cuts[:-1]], cuts, strict=True)]
        start = word.end()
    return [piece for piece in [*pieces, text[start:]] if piece]
