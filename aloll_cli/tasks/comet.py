"""COMET: commonsense triples of ATOMIC; the model generates the tail for a head and a relation.

A row of ATOMIC-10X, or of any data with these three fields (split and p_valid_model are optional):
``{"head": "PersonX eats", "relation": "xNeed", "tail": "to buy food", "split": "train", "p_valid_model": 0.97}``
Several tails of one prompt: ``{"head": "PersonX eats", "relation": "xNeed", "references": ["to buy food", "to be hungry"]}``
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aloll_cli.tasks.atomic2020 import RELATIONS, as_prompt
from aloll_cli.tasks.base import BadRow, Dropped, Part, Record, Task, expected, number, split_name, text_field, unicode


@dataclass(kw_only=True)
class Comet(Task):
    """Commonsense triples: the prompt is head and relation, the response the tail; the stored reward is its plausibility."""

    relations: list[str] | None
    reward_column: str

    download = "ATOMIC-10X and ATOMIC 2020 have to be downloaded"

    def records(self, row: dict[str, Any]) -> Sequence[Record]:
        head, relation = text_field(row, "head").strip(), text_field(row, "relation").strip()
        if relation not in RELATIONS:
            raise BadRow(expected(f"a relation of ATOMIC 2020 ({', '.join(RELATIONS)})", relation, "relation"))
        if self.relations is not None and relation not in self.relations:
            raise Dropped("another relation")
        tails = _texts(row["references"]) if "references" in row else [text_field(row, "tail")]
        if not tails:
            raise Dropped("no tail")
        plausible = row.get(self.reward_column)
        stored = None if plausible is None else number(plausible, self.reward_column)
        split = None if row.get("split") is None else split_name(row["split"], "split")
        parts = (Part(as_prompt(head, relation)),)
        return [
            Record(parts, tail.strip(), stored, position, subset=row.get("source"), split=split)
            for position, tail in enumerate(tails)
        ]


def _texts(found: Any) -> list[str]:
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise BadRow(expected("a list of texts", found, "references"))
    return [unicode(text, "references") for text in found]
