"""Options with a few named choices."""

from __future__ import annotations

from enum import Enum


class Select(Enum):
    """Which policy a run leaves."""

    best = "the best of its evaluations"
    last = "the one after the last update"


class Split(Enum):
    """Which prompts evaluate answers."""

    validation = "those that checkpoints are chosen on"
    test = "those that nothing else has seen"


class References(Enum):
    """Which logged responses to a prompt its answers are held against, by BLEU and ROUGE."""

    best = "the one with the highest stored reward; the first of a row where none is stored"
    all = "every one"


class Format(Enum):
    """How inspect and compare print what they find."""

    page = "for a person"
    json = "for a program: one object"
