"""What the tasks of dialogues about a piece of knowledge share: they differ in which responses they learn from.

A row of FaithDial's form. Where somebody wrote the response anew, ``original_response`` is the one of Wizard of Wikipedia, and
``BEGIN`` says what was wrong with it: ``{"knowledge": "Cats have 18 toes.", "history": ["Tell me of cats!"],
"response": "They have 18 toes.", "original_response": "I love them.", "BEGIN": ["Hallucination"], "VRM": ["Disclosure"]}``
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar

from aloll_cli.tasks.base import BadRow, Part, Record, Task, number, shown, text_field, unicode


class Written(Enum):
    """Which response to learn from where one was written anew."""

    anew = "the new one, which keeps to the knowledge"
    first = "the one before"
    both = "either"


@dataclass(kw_only=True)
class KnowledgeDialogue(Task):
    """Answers that should keep to a piece of knowledge; what is stored about one is whether it does (1) or not (0)."""

    written: ClassVar[Written]

    def records(self, row: dict[str, Any]) -> Sequence[Record]:
        parts = prompt_parts(text_field(row, "knowledge").strip(), _texts(row, "history"))
        response, labels = text_field(row, "response").strip(), _texts(row, "BEGIN")
        before = "" if row.get("original_response") is None else text_field(row, "original_response").strip()
        subset = row.get("corpus")
        if before in ("", response):
            return [Record(parts, response, _marked(row, _faithful(labels, accepted=bool(labels))), subset=subset)]
        anew, first = (response, _marked(row, 1.0)), (before, _faithful(labels, accepted=False))  # labels are of the first
        chosen = {Written.anew: [anew], Written.first: [first], Written.both: [anew, first]}[self.written]
        return [Record(parts, text, stored, position, subset) for position, (text, stored) in enumerate(chosen)]


def prompt_parts(knowledge: str, history: list[str]) -> tuple[Part, ...]:
    """The oldest turns give way first, and whole; then the beginning of the last one; the knowledge stays."""
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
        raise BadRow(f'field "{name}" is {shown(found)}; a list of texts is needed')
    return [unicode(text, name).strip() for text in found]


def _faithful(labels: list[str], accepted: bool) -> float | None:
    """Whether a response keeps to the knowledge by the labels of BEGIN; accepted: people read it and let it stand."""
    if "Hallucination" in labels:
        return 0.0
    return 1.0 if accepted or "Entailment" in labels else None


def _marked(row: dict[str, Any], otherwise: float | None) -> float | None:
    """The row's own mark, where it has such a field, null for unknown."""
    if "faithful" not in row:
        return otherwise
    return None if row["faithful"] is None else number(row["faithful"], "faithful")
