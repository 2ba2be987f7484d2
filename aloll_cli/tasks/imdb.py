"""Film reviews: the first half of a review's words is the prompt, the rest the response.

A row, of the hub's form too: ``{"text": "Long, boring. Never have I been so glad to see ending credits.", "label": 0}``
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
    """Film reviews to go on with; what is stored about one is its label, 1 where it is favourable."""

    hub = "stanfordnlp/imdb"

    def records(self, row: dict[str, Any]) -> Sequence[Record]:
        words = LINE_BREAK.sub(" ", text_field(row, "text")).split()
        label = row.get("label")
        stored = None if label is None else number(label, "label")
        if len(words) < 2:
            raise Dropped("fewer than two words")
        half = len(words) // 2
        # the space belongs to the response, as the tokenizer sees words
        return [Record((Part(" ".join(words[:half])),), " " + " ".join(words[half:]), stored)]
