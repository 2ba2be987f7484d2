"""The fitted state of rewards that scikit-learn fits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aloll_cli.artifacts.data import Data
from aloll_cli.artifacts.raw_table import CHUNK, open_data
from aloll_cli.artifacts.selected_responses import columns_of_rows
from aloll_cli.files import write_json
from aloll_cli.rewards.base import Reward, Row, reading
from aloll_cli.rewards.skill import in_words
from aloll_cli.schema import identity
from aloll_cli.store.store import Artifact, Job
from aloll_cli.tasks.base import Task, plain_prompt, turns
from aloll_cli.tasks.selection import limited

if TYPE_CHECKING:
    import pyarrow as pa

    from aloll_cli.arrays import FloatArray


MOST_FITTED = 500_000  # responses that a reward is fitted on, or measured on


class FittedReward(Artifact):
    """A reward fitted on the raw train split, and its quality on the validation split (skill.json)."""

    kind, stage = "fitted-reward", "score-rewards"
    resumes = False

    def __init__(self, reward: Reward, data: Data) -> None:
        self.reward, self.data = reward, data
        self.name = reward.label

    def identity(self) -> dict[str, Any]:
        return {"reward": identity(self.reward), "most_rows": MOST_FITTED} | reading(self.reward)

    def inputs(self) -> dict[str, Artifact]:
        return {"data": self.data}

    def make(self, job: Job) -> None:
        with self.data.naming_columns():
            job.world.on_main(lambda: self._fit(job))

    def _fit(self, job: Job) -> None:
        train, validation = (rows_to_fit(job, self.data, split) for split in ("train", "validation"))
        if warning := self.reward.check_stored({"train": _stored(train), "validation": _stored(validation)}):
            job.log.warn(warning)
        skill = self.reward.fit(train, validation, job.directory)
        write_json(job.directory / "skill.json", skill)
        if skill:
            job.log.say(f"  quality on held-out prompts: {in_words(skill)}")


def _stored(rows: list[Row]) -> FloatArray:
    import numpy as np

    return np.array([row.stored for row in rows if row.stored is not None], dtype=np.float64)


def rows_to_fit(job: Job, data: Data, split: str) -> list[Row]:
    """The raw rows of a split; of more than MOST_FITTED rated ones, those to a fixed subset of the prompts."""
    import numpy as np

    raw = open_data(job.path(data), split)
    if raw.num_rows <= MOST_FITTED:
        return [row for batch in raw.batches() for row in raw_rows(batch, data.task)]
    known = columns_of_rows(job.path(data), split, ["group", "stored"])
    rated = np.flatnonzero(~np.isnan(known.column("stored").to_numpy()))
    kept = rated[limited(known.column("group").to_numpy()[rated], MOST_FITTED)]
    job.log.say(f"  {split}: {len(kept):,} of {len(rated):,} rated responses are read, those to a fixed subset of the prompts")
    parts = (kept[start : start + CHUNK] for start in range(0, len(kept), CHUNK))
    return [row for part in parts for row in raw_rows(raw.take(part), data.task)]


def raw_rows(raw: pa.Table, task: Task) -> list[Row]:
    """Rows of the raw data of a task as input of a scorer."""
    return [
        Row.of(task, row["id"], row["group"], plain_prompt(row["parts"]), row["response"], row["stored"], turns(row["parts"]))
        for row in raw.select(["id", "group", "response", "stored", "parts"]).to_pylist()
    ]
