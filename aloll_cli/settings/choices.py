"""Options with named choices."""

from __future__ import annotations

from enum import Enum


class Select(Enum):
    """The checkpoint that becomes the policy."""

    best = "the best by validation reward"
    last = "the one after the last step"


class Split(Enum):
    """The prompts that evaluate generates responses for."""

    validation = "the prompts that checkpoints are selected on"
    test = "prompts that nothing else uses"


class References(Enum):
    """The logged responses to a prompt that BLEU and ROUGE compare generated ones with."""

    best = "the one with the highest stored reward; the first of a row if none is stored"
    all = "all"


class Format(Enum):
    """The output format of inspect and compare."""

    page = "for people"
    json = "for programs: one JSON object"
