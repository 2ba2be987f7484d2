"""What the two tasks of Reddit comments share: they differ in which training comments they learn from.

A row: ``{"parent_text": "Cats or dogs?", "text": "Cats, see https://cats.org", "parent_score": 12, "score": -3}``
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from aloll_cli.schema import COUNT
from aloll_cli.tasks.base import BadRow, Dropped, Part, Record, Task, number, text_field

URL = re.compile(r"(?:https?://|www\.)[^\s)\]>]+")
GONE = ("[deleted]", "[removed]")


@dataclass(kw_only=True)
class Comments(Task):
    """Replies to comments; what is stored about one is its score, up votes less down votes."""

    max_words: int = field(metadata=COUNT)  # of the comment, and of what it replies to

    download = "the comments are a download (danofer/reddit-comments-scores-nlp on Kaggle)"

    def records(self, row: dict[str, Any]) -> Sequence[Record]:
        parent, comment = (URL.sub("<URL>", text_field(row, name)).strip() for name in ("parent_text", "text"))
        if "score" not in row:
            raise BadRow('field "score" is missing; a number is needed')
        stored = number(row["score"], "score")
        if parent in GONE or comment in GONE:
            raise Dropped("deleted or removed")
        if not parent:
            raise Dropped("a reply to nothing")
        if max(len(parent.split()), len(comment.split())) > self.max_words:
            raise Dropped(f"more than {self.max_words} words")
        return [Record((Part(parent, "user", eos=True),), comment, stored)]
