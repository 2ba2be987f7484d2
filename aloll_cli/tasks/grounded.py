"""The base class of knowledge-grounded dialogue tasks, which differ in the responses that they use.

A row in FaithDial's format. If the response was rewritten, ``original_response`` is that of Wizard of Wikipedia, and ``BEGIN``
labels what was wrong with it: ``{"knowledge": "Cats have 18 toes.", "history": ["Tell me of cats!"],
"response": "They have 18 toes.", "original_response": "I love them.", "BEGIN": ["Hallucination"], "VRM": ["Disclosure"]}``
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar

from aloll_cli.tasks.base import BadRow, Part, Record, Task, expected, number, text_field, unicode


class Written(Enum):
    """Which response to use where it was rewritten."""

    anew = "the rewritten one, which is faithful to the knowledge"
    first = "the original one"
    both = "both"


@dataclass(kw_only=True)
class KnowledgeDialogue(Task):
    """Responses that should be faithful to a piece of knowledge; the stored reward is 1 if they are, 0 if not."""

    written: ClassVar[Written]

    def records(self, row: dict[str, Any]) -> Sequence[Record]:
        parts = prompt_parts(text_field(row, "knowledge").strip(), _texts(row, "history"))
        response, labels = text_field(row, "response").strip(), _texts(row, "BEGIN")
        before = "" if row.get("original_response") is None else text_field(row, "original_response").strip()
        subset = row.get("corpus")
        if before in ("", response):
            return [Record(parts, response, _marked(row, _faithful(labels, accepted=bool(labels))), subset=subset)]
        anew, first = (
            (response, _marked(row, 1.0)),
            (before, _faithful(labels, accepted=False)),
        )  # the labels are about the original response
        chosen = {Written.anew: [anew], Written.first: [first], Written.both: [anew, first]}[self.written]
        return [Record(parts, text, stored, position, subset) for position, (text, stored) in enumerate(chosen)]


def prompt_parts(knowledge: str, history: list[str]) -> tuple[Part, ...]:
    """An over-long prompt drops its oldest turns, then the beginning of the last turn; the knowledge stays."""
    roles = ("user", "assistant")
    last = len(history) - 1
    turns = [
        Part(text, roles[(last - place) % 2], drop=int(place == last), whole=place < last, eos=True)
        for place, text in enumerate(history)
    ]
    return (Part(knowledge, "system", drop=None, eos=True, prefix="Knowledge: ", source=True), *turns)


def _texts(row: dict[str, Any], name: str) -> list[str]:
    found = row.get(name)
    if found is None and name != "history":
        return []
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise BadRow(expected("a list of texts", found, name))
    return [unicode(text, name).strip() for text in found]


def _faithful(labels: list[str], accepted: bool) -> float | None:
    """Whether the labels of BEGIN call a response faithful; accepted: people read it and did not rewrite it."""
    if "Hallucination" in labels:
        return 0.0
    return 1.0 if accepted or "Entailment" in labels else None


def _marked(row: dict[str, Any], otherwise: float | None) -> float | None:
    """The row's field ``faithful`` if it has one (null: unknown), else the given value."""
    if "faithful" not in row:
        return otherwise
    return None if row["faithful"] is None else number(row["faithful"], "faithful")
