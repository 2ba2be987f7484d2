"""The base class of the two Reddit tasks, which differ in the training comments that they use.

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
    """Replies to Reddit comments; the stored reward is the score, upvotes minus downvotes."""

    max_words: int = field(metadata=COUNT)  # in the comment, and in the comment it replies to

    download = "the comments have to be downloaded (danofer/reddit-comments-scores-nlp on Kaggle)"

    def records(self, row: dict[str, Any]) -> Sequence[Record]:
        parent, comment = (URL.sub("<URL>", text_field(row, name)).strip() for name in ("parent_text", "text"))
        if "score" not in row:
            raise BadRow('field "score" is missing; expected a number')
        stored = number(row["score"], "score")
        if parent in GONE or comment in GONE:
            raise Dropped("deleted or removed")
        if not parent:
            raise Dropped("a reply to nothing")
        if max(len(parent.split()), len(comment.split())) > self.max_words:
            raise Dropped(f"more than {self.max_words} words")
        return [Record(tuple(self.asked(parent)), comment, stored)]

    def asked(self, text: str) -> Sequence[Part]:
        return (Part(text, "user", eos=True),)
