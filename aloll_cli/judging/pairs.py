"""Pairs of responses to the same prompt, and the labels that they were given."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aloll_cli.tasks.base import Turn


@dataclass(frozen=True)
class Pair:
    """Two responses to a prompt.

    Attributes:
        prompt: the whole prompt.
        first, second: the responses of the two sides.
        group: identity of the prompt, where it is known.
        turns: the prompt as chat turns, where they are known.
    """

    prompt: str
    first: str
    second: str
    group: str = ""
    turns: Sequence[Turn] = field(default=(), compare=False)

    @cached_property
    def key(self) -> str:
        """What tells it from other pairs: 16 hexadecimal digits of its texts."""
        return digest([self.prompt, self.first, self.second])[:16]

    @property
    def is_same(self) -> bool:
        """Whether the two responses are one text, which nobody needs to be asked about."""
        return self.first == self.second

    def shown(self, swapped: bool) -> tuple[str, str]:
        """The responses as A and B."""
        return (self.second, self.first) if swapped else (self.first, self.second)


@dataclass(frozen=True)
class Ballot:
    """One judgement of a pair.

    Attributes:
        key: of the pair.
        voter: who judged.
        swapped: whether the second side was shown as A.
        labels: by question, as they were given: A is the response that was shown first; None where the reply was malformed.
        why: what is wrong with a malformed reply.
        text: the reply of a model.
    """

    key: str
    voter: str
    swapped: bool
    labels: dict[str, str] | None
    why: str = ""
    text: str = ""

    def winner(self, question: str) -> str | None:
        """``first``, ``second``, ``equal`` or ``neither``; None where it says nothing about a question."""
        label = (self.labels or {}).get(question)
        return ("second" if (label == "A") == self.swapped else "first") if label in ("A", "B") else label


def digest(value: Any) -> str:
    """64 hexadecimal digits of plain values."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def chosen(pairs: Sequence[Pair], prompts: int | None) -> list[Pair]:
    """The pairs of at most so many prompts, in their order; which ones is decided by a hash of the prompt alone."""
    found = list(dict.fromkeys(pair.prompt for pair in pairs))
    if prompts is None or len(found) <= prompts:
        return list(pairs)
    kept = set(sorted(found, key=lambda prompt: hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).digest())[:prompts])
    return [pair for pair in pairs if pair.prompt in kept]


def distinct(pairs: Sequence[Pair]) -> list[Pair]:
    """Each pair of different responses once."""
    return list({pair.key: pair for pair in pairs if not pair.is_same}.values())
