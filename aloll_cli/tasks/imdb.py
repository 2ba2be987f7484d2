"""Film reviews: the first half of a review's words is the prompt, the rest the response.

A row, locally and on the hub: ``{"text": "Long, boring. Never have I been so glad to see ending credits.", "label": 0}``
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aloll_cli.tasks.base import Dropped, Part, Record, Task, number, text_field

LINE_BREAK = re.compile(r"<br\s*/?>")


@dataclass(kw_only=True)
class Imdb(Task):
    """Film reviews to continue; the stored reward is the label, 1 for a favourable review and 0 for an unfavourable one."""

    hub = "stanfordnlp/imdb"
    licence = "other"

    def records(self, row: dict[str, Any]) -> Sequence[Record]:
        words = LINE_BREAK.sub(" ", text_field(row, "text")).split()
        label = row.get("label")
        stored = None if label is None else number(label, "label")
        if len(words) < 2:
            raise Dropped("fewer than two words")
        half = len(words) // 2
        prompt, response = " ".join(words[:half]), " ".join(words[half:])
        return [Record((Part(prompt),), self.separator(prompt, response, is_chat=False) + response, stored)]

    def separator(self, prompt: str, response: str, is_chat: bool) -> str:
        return "" if is_chat else " "  # tokenizers attach it to the word that follows
