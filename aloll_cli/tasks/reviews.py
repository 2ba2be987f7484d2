"""The built-in task: short reviews, shipped with the package.

A row: ``{"prompt": "We booked a table at Chez Anna. The mood was sad.", "response": "Sadly, the soup was awful."}``

The prompt carries a mood, which makes some endings likelier than others. scripts/make_reviews.py wrote the rows from a grammar
of this project, so that they are under its licence, Apache-2.0, and hold no text from elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aloll_cli.tasks.base import Part, Record, Task, text_field
from aloll_cli.tasks.source import LocalSource, Source


@dataclass(kw_only=True)
class Reviews(Task):
    """Short reviews: the prompt is the beginning, the response the rest."""

    licence = "apache-2.0"

    def source(self) -> Source:
        shipped = Path(__file__).parents[1] / "data" / "reviews"
        return LocalSource(str(shipped) if self.path is None else self.path)

    def records(self, row: dict[str, Any]) -> Sequence[Record]:
        prompt, response = text_field(row, "prompt"), text_field(row, "response")
        return [Record((Part(prompt),), self.separator(prompt, response, is_chat=False) + response)]

    def separator(self, prompt: str, response: str, is_chat: bool) -> str:
        return "" if is_chat else " "  # tokenizers attach it to the word that follows
