"""Rewards of all responses in a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aloll_cli.artifacts.data import Data
from aloll_cli.artifacts.finetuned_reward import FinetunedReward
from aloll_cli.artifacts.fitted_reward import FittedReward
from aloll_cli.errors import UserError
from aloll_cli.foreign import checked_json, dict_of, number
from aloll_cli.rewards.base import Reward, Row, Scorer, reading
from aloll_cli.rewards.finetuned import Finetuned
from aloll_cli.rewards.scoring import checked_scores, using
from aloll_cli.rewards.variation import constancy, weakness
from aloll_cli.schema import identity, name_of
from aloll_cli.store.rows import Rows
from aloll_cli.store.store import Artifact, Job
from aloll_cli.store.tables import columns_of, open_blocks, read_numbers, write_blocks
from aloll_cli.tasks.base import SPLITS, Task, shown
from aloll_cli.visible import fixed

if TYPE_CHECKING:
    import pyarrow as pa

    from aloll_cli.arrays import FloatArray


COLUMNS = ("id", "group", "prompt", "response", "stored", "turns")  # of examples and generations, which rewards read


def fitted_reward(reward: Reward, data: Data) -> FittedReward | FinetunedReward | None:
    """The artifact of a reward's fitted state; None if it has none."""
    if isinstance(reward, Finetuned):
        return FinetunedReward(reward, data)
    return FittedReward(reward, data) if reward.is_fitted else None


class ScoredBy:
    """A reward with the artifact of its fitted state, if it has one."""

    def __init__(self, reward: Reward, data: Data) -> None:
        self.reward, self.data = reward, data
        self.fitted = fitted_reward(reward, data)

    def inputs(self) -> dict[str, Artifact]:
        return {"fitted": self.fitted} if self.fitted else {}

    def identity(self) -> dict[str, Any]:
        content = self.reward.content()
        return {"reward": identity(self.reward)} | reading(self.reward) | ({"content": content} if content else {})

    def scorer(self, job: Job) -> Scorer:
        """Load the scorer. Raises UserError if the reward returned anything else."""
        found = self.reward.scorer(job.path(self.fitted) if self.fitted else None)
        if not isinstance(found, Scorer):
            what = f"scorer of reward={name_of(self.reward)} returned {shown(found)}."
            raise UserError(what, "Expected an object of a class that derives from Scorer.")
        return found

    def skills(self, job: Job) -> dict[str, dict[str, float]]:
        """Quality of fitted rewards on held-out rows, by part of the reward; "" is the whole reward."""
        skill = checked_json(job.path(self.fitted) / "skill.json", dict_of(number)) if self.fitted else {}
        return {"": skill} if skill else {}

    def components(self) -> list[str]:
        """The columns with the scores of its components."""
        return [self.reward.label]

    def rewards(self, source: Artifact, table: str) -> Rewards:
        """Rewards of the table in the folder ``table`` of the artifact ``source``."""
        return Rewards(self, source, table)


class Rewards(Artifact):
    """One row per response: id, score, reward (the same); of scorers that have them, cut (tokens cut off) and malformed."""

    kind, stage = "rewards", "score-rewards"

    def __init__(self, scored_by: ScoredBy, source: Artifact, table: str) -> None:
        """Rewards of the table in the folder ``table`` of the artifact ``source``."""
        self.scored_by, self.source, self.table = scored_by, source, table
        self.name = f"{scored_by.reward.label}-{table}"

    def identity(self) -> dict[str, Any]:
        return self.scored_by.identity() | {"table": self.table}

    def inputs(self) -> dict[str, Artifact]:
        return {"source": self.source} | self.scored_by.inputs()

    @property
    def what(self) -> str:
        """The rows that it scores, in words: ``train responses``."""
        return f"{self.table if self.is_logged else 'generated'} responses"

    def make(self, job: Job) -> None:
        source, task = open_blocks(job.path(self.source) / self.table, COLUMNS), self.scored_by.data.task
        _check_script(job, self.scored_by.reward, self.what, open_blocks(job.path(self.source) / self.table, ["response"]))
        if self.is_logged and not self.scored_by.fitted:  # a fitted one has been checked on what it is fitted on
            warning = self.scored_by.reward.check_stored({split: self._stored(job, split) for split in SPLITS})
            if warning and self.table == "train":  # once, not for every split
                job.log.warn(warning)
        if self.table == "train":
            _check_language(job, self.scored_by.reward, self.what, open_blocks(job.path(self.source) / self.table, ["response"]))
        with self.scored_by.data.naming_columns():
            score_blocks(job, self.scored_by, self.what, source.num_rows, lambda i, j: table_rows(source, task, i, j))
        log_summary(job, self)

    @property
    def is_logged(self) -> bool:
        """Whether the responses are those of a split of the data, rather than generated ones."""
        return self.table in SPLITS

    def _stored(self, job: Job, split: str) -> FloatArray:
        """The stored rewards of a split's examples, where they have one."""
        import numpy as np

        stored: FloatArray = read_numbers(job.path(self.source) / split, "stored")
        return stored[~np.isnan(stored)]


def _check_script(job: Job, reward: Reward, what: str, responses: Rows) -> None:
    """Warn about responses in a script that the reward does not know; raises UserError if all are."""
    count = responses.num_rows
    unknown = sum(not reward.knows(text) for table in responses.batches() for text in table.column("response").to_pylist())
    if not unknown:
        return
    name = f"reward={name_of(reward)}"
    if unknown == count:
        raise UserError(
            f"{name} cannot score the {what}: all {count:,} are in a script that it does not know.",
            "A reward for their language: reward=classifier with a model of it, reward=fitted or reward=function",
        )
    job.log.warn(
        f"{name} does not know the script of {unknown:,} of {count:,} {what} ({unknown / count:.1%}); "
        "their rewards say nothing about them"
    )


def _check_language(job: Job, reward: Reward, what: str, responses: Rows) -> None:
    """Warn where most responses do not look like the language that the reward is made for."""
    if reward.language is None:
        return
    found = Counter(reward.understands(text) for table in responses.batches() for text in table.column("response").to_pylist())
    if found[True] < found[False]:
        job.log.warn(
            f"reward={name_of(reward)} is for {reward.language}, and {found[False]:,} of {found[True] + found[False]:,} {what} "
            "have none of its common words; their rewards say nothing about texts in another language (docs/rewards.md)"
        )


def score_blocks(job: Job, scored_by: ScoredBy, what: str, count: int, rows_of: Callable[[int, int], list[Row]]) -> None:
    """Write the table ``rewards``.

    Args:
        job: the build.
        scored_by: the reward.
        what: name of the rows, for the progress bar.
        count: number of rows.
        rows_of: (start, stop) → those rows.
    """
    import pyarrow as pa

    reward = scored_by.reward

    def write(scorer: Scorer) -> None:
        if told := scorer.told():
            job.log.say(f"  {reward.label}: {told}")
        if warning := scorer.warning():
            job.log.warn(f"reward {reward.label}: {warning}")

        def score(start: int, stop: int) -> pa.Table:
            rows = rows_of(start, stop)
            scores = checked_scores(reward, scorer, rows)
            if start == 0 and (doubt := scorer.doubt(rows, scores)):
                job.log.warn(doubt)
            table = {"id": [row.id for row in rows], reward.label: scores, "reward": scores}
            more = {"cut": scorer.cut(rows), "malformed": scorer.malformed(rows)}
            return pa.table(table | {name: column for name, column in more.items() if column is not None})

        write_blocks(job, "rewards", count, f"score {what} with {reward.label}", score)

    using(lambda: scored_by.scorer(job), write)


def load_rewards(directory: Path) -> FloatArray:
    """(N,) rewards in the order of the rows."""
    rewards: FloatArray = read_numbers(directory / "rewards", "reward")
    return rewards


def load_components(directory: Path, names: list[str]) -> dict[str, FloatArray]:
    """(N,) score of each component, in the order of the rows."""
    return {name: read_numbers(directory / "rewards", name) for name in names}


def table_rows(table: Rows, task: Task, start: int, stop: int) -> list[Row]:
    """Rows of examples or generations of a task as input of a scorer."""
    columns = table.slice(start, stop - start).select(COLUMNS)
    return [Row.of(task, *values) for values in zip(*(columns.column(name).to_pylist() for name in COLUMNS), strict=True)]


def log_summary(job: Job, scored: Rewards) -> None:
    """Log mean and percentiles of the rewards, how many texts were truncated for scoring, and whether the signal is weak."""
    import numpy as np

    if not job.world.is_main:
        return
    rewards, columns = load_rewards(job.directory), columns_of(job.directory / "rewards")
    low, middle, high = np.percentile(rewards, [5, 50, 95])
    percentiles = f"5th/50th/95th percentile {fixed(low, 3)}/{fixed(middle, 3)}/{fixed(high, 3)}"
    job.log.say(f"  rewards of {len(rewards):,} responses: mean {fixed(rewards.mean(), 3)}, {percentiles}")
    if "cut" in columns:
        cut = read_numbers(job.directory / "rewards", "cut")
        lost = f", by {cut[cut > 0].mean():.0f} tokens on average and {cut.max():,} at most" if cut.any() else ""
        job.log.say(f"  {(cut > 0).sum():,} of {len(cut):,} texts were too long for the reward and truncated{lost}")
    if "malformed" in columns:
        malformed = read_numbers(job.directory / "rewards", "malformed").sum()
        job.log.say(
            f"  {malformed:,} of {len(rewards):,} replies were malformed; these responses have the reward of reward.malformed"
        )
    why = weakness(rewards, scored.scored_by.reward.range) if scored.is_logged else constancy(rewards)
    if why:
        job.log.warn(f"the {scored.scored_by.reward.label} rewards of the {len(rewards):,} {scored.what} {why}")
