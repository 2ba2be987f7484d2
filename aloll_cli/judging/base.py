"""The base class of judges: a judge labels pairs of responses by the questions of a rubric."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aloll_cli.judging.pairs import Ballot, Pair
from aloll_cli.judging.rubric import Rubric
from aloll_cli.rewards.base import Reward, Scorer
from aloll_cli.runtime.terminal import Log
from aloll_cli.schema import COUNT, OPERATIONAL
from aloll_cli.stopping import Stopper
from aloll_cli.tasks.base import Task


@dataclass(frozen=True)
class Bench:
    """What a judge works with.

    Attributes:
        folder: of replies that outlast a command.
        log: the terminal.
        stopper: whether a stop was requested.
        scorer: loads the reward of a judge that has one.
        task: of the prompts, for a judge that has a reward.
        ballots: that people have cast.
    """

    folder: Path
    log: Log
    stopper: Stopper
    scorer: Callable[[], Scorer]
    task: Task | None
    ballots: Sequence[Ballot] = ()


@dataclass(frozen=True)
class Judged:
    """The ballots about some pairs, and what they cost, by name."""

    ballots: list[Ballot]
    cost: dict[str, Any]


@dataclass(kw_only=True)
class Judge(ABC):
    """Who says which of two responses is better."""

    prompts: int | None = field(metadata=OPERATIONAL | COUNT)  # the recipe holds the pairs themselves

    @property
    @abstractmethod
    def label(self) -> str:
        """Its name in tables and folders."""

    @property
    def by_votes(self) -> bool:
        """Whether people vote on a page, and their votes come as files."""
        return False

    @property
    def scored_by(self) -> Reward | None:
        """The reward that decides, if one does."""
        return None

    def questions(self, rubric: Rubric) -> list[str]:
        """The names of the questions that it has labels for."""
        return list(rubric.questions)

    @abstractmethod
    def judge(self, pairs: Sequence[Pair], rubric: Rubric, bench: Bench) -> Judged:
        """Label pairs; those of one text need no ballot.

        Raises:
            UserError: it cannot.
            Interrupted: a stop was requested; replies so far are kept.
        """
