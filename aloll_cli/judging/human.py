"""People as judges: they vote on a page without knowing the sides, and their votes come back as files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aloll_cli.judging.base import Bench, Judge, Judged
from aloll_cli.judging.pairs import Pair
from aloll_cli.judging.rubric import Rubric


@dataclass(kw_only=True)
class Human(Judge):
    """People, who vote on an HTML page; their votes come back as files (votes=[FILE,FILE])."""

    @property
    def label(self) -> str:
        return "people"

    @property
    def by_votes(self) -> bool:
        return True

    def judge(self, pairs: Sequence[Pair], rubric: Rubric, bench: Bench) -> Judged:
        return Judged(list(bench.ballots), {})
