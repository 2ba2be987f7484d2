"""Judgements of pairs of responses by people, a chat model or a reward."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from aloll_cli.artifacts.rewards import ScoredBy
from aloll_cli.files import write_json
from aloll_cli.judging.base import Bench, Judge
from aloll_cli.judging.figures import agreement, figures
from aloll_cli.judging.ledger import FOLDER
from aloll_cli.judging.pairs import Ballot, Pair, digest
from aloll_cli.judging.rubric import Rubric
from aloll_cli.rewards.base import Scorer
from aloll_cli.schema import identity, name_of
from aloll_cli.store.store import Artifact, Job

LONGEST_NAME = 120  # characters of the readable part of its folder's name


class Judgements(Artifact):
    """The result of ``aloll judge``: judgement.json with the figures, and ballots.jsonl with one line per judgement of a pair."""

    kind, stage = "judgements", "judge"
    resumes = False  # replies are kept beside it, by what was asked

    def __init__(
        self,
        judge: Judge,
        rubric: Rubric,
        sides: Sequence[dict[str, Any]],
        pairs: Sequence[Pair],
        scored_by: ScoredBy | None,
        votes: Sequence[Ballot],
        resamples: int,
    ) -> None:
        """Judge pairs.

        Args:
            judge: who.
            rubric: by which questions.
            sides: of the first and the second responses: ``run``, the folder's name, ``side`` and ``label``.
            pairs: in the order of their prompts.
            scored_by: the reward of a judge that has one.
            votes: of a judge that people are.
            resamples: bootstrap resamples.
        """
        self.judge, self.rubric, self.sides, self.pairs = judge, rubric, sides, pairs
        self.scored_by, self.votes, self.resamples = scored_by, votes, resamples
        self.name = re.sub(r"[^\w.+@-]+", "-", f"{judge.label}-{sides[0]['label']}-vs-{sides[1]['label']}")[:LONGEST_NAME]

    def identity(self) -> dict[str, Any]:
        asked = {"judge": identity(self.judge), "sides": list(self.sides), "pairs": digest([pair.key for pair in self.pairs])}
        if self.scored_by is not None:
            return asked | {"scored_by": self.scored_by.identity(), "resamples": self.resamples}
        votes = {"votes": digest([vars(ballot) for ballot in self.votes])} if self.votes else {}
        return asked | {"rubric": identity(self.rubric), "resamples": self.resamples} | votes

    def inputs(self) -> dict[str, Artifact]:
        return self.scored_by.inputs() if self.scored_by else {}

    def make(self, job: Job) -> None:
        job.world.on_main(lambda: self._save(job))

    def _save(self, job: Job) -> None:
        def scorer() -> Scorer:
            assert self.scored_by is not None
            return self.scored_by.scorer(job)

        task = self.scored_by.data.task if self.scored_by else None
        bench = Bench(job.store.root / FOLDER, job.log, job.stopper, scorer, task, self.votes)
        judged = self.judge.judge(self.pairs, self.rubric, bench)
        questions = self.judge.questions(self.rubric)
        found = figures(self.pairs, judged.ballots, questions, self.resamples)
        voters = list(dict.fromkeys(ballot.voter for ballot in judged.ballots))
        if len(voters) > 1:
            for name in questions:
                found["questions"][name]["agreement"] = agreement(judged.ballots, name)
        about = {
            "judge": name_of(self.judge), "by": self.judge.label, "sides": list(self.sides), "voters": len(voters),
            "asked": {name: self.rubric.questions.get(name, "the higher reward") for name in questions},
        }  # fmt: skip
        write_json(job.directory / "judgement.json", about | found | {"cost": judged.cost})
        lines = (json.dumps(vars(ballot), ensure_ascii=False) + "\n" for ballot in judged.ballots)
        (job.directory / "ballots.jsonl").write_text("".join(lines), encoding="utf-8", errors="backslashreplace")
