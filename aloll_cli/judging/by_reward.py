"""A reward as the judge: the response with the higher score wins. It costs nothing, and knows nothing of the rubric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aloll_cli.judging.base import Bench, Judge, Judged
from aloll_cli.judging.pairs import Ballot, Pair, distinct
from aloll_cli.judging.rubric import Rubric
from aloll_cli.rewards.base import Reward, Row
from aloll_cli.rewards.scoring import checked_scores, using

ROWS = 256  # scored at a time


@dataclass(kw_only=True)
class ByReward(Judge):
    """The response with the higher reward wins; a free baseline."""

    reward: Reward

    @property
    def label(self) -> str:
        return self.reward.label

    @property
    def scored_by(self) -> Reward | None:
        return self.reward

    def questions(self, rubric: Rubric) -> list[str]:
        return [self.reward.label]

    def judge(self, pairs: Sequence[Pair], rubric: Rubric, bench: Bench) -> Judged:
        import numpy as np

        assert bench.task is not None
        asked = distinct(pairs)
        rows = [
            Row.of(bench.task, f"{pair.key}-{side}", pair.group or pair.key, pair.prompt, response, turns=pair.turns)
            for pair in asked
            for side, response in (("first", pair.first), ("second", pair.second))
        ]
        if not rows:
            return Judged([], {})
        scores = using(
            bench.scorer,
            lambda scorer: np.concatenate(
                [checked_scores(self.reward, scorer, rows[start : start + ROWS]) for start in range(0, len(rows), ROWS)]
            ),
        )
        names = [
            "equal" if first == second else "A" if first > second else "B" for first, second in scores.reshape(-1, 2).tolist()
        ]
        ballots = [
            Ballot(pair.key, self.label, False, {self.label: name}, text=f"{first:.6g} {second:.6g}")
            for pair, name, (first, second) in zip(asked, names, scores.reshape(-1, 2).tolist(), strict=True)
        ]
        return Judged(ballots, {})
