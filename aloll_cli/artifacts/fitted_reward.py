"""The fitted state of rewards that scikit-learn fits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aloll_cli.artifacts.data import Data
from aloll_cli.artifacts.raw_rows import load_data
from aloll_cli.files import write_json
from aloll_cli.rewards.base import Reward, Row
from aloll_cli.rewards.skill import in_words
from aloll_cli.schema import identity
from aloll_cli.store.store import Artifact, Job
from aloll_cli.tasks.base import plain_prompt, turns

if TYPE_CHECKING:
    import pyarrow as pa

    from aloll_cli.arrays import FloatArray


class FittedReward(Artifact):
    """A reward fitted on the raw train split, and its quality on the validation split (skill.json)."""

    kind, stage = "fitted-reward", "score-rewards"
    resumes = False

    def __init__(self, reward: Reward, data: Data) -> None:
        self.reward, self.data = reward, data
        self.name = reward.label

    def identity(self) -> dict[str, Any]:
        return {"reward": identity(self.reward)}

    def inputs(self) -> dict[str, Artifact]:
        return {"data": self.data}

    def make(self, job: Job) -> None:
        with self.data.naming_columns():
            job.world.on_main(lambda: self._fit(job))

    def _fit(self, job: Job) -> None:
        train, validation = (raw_rows(load_data(job.path(self.data), split)) for split in ("train", "validation"))
        if warning := self.reward.check_stored({"train": _stored(train), "validation": _stored(validation)}):
            job.log.warn(warning)
        skill = self.reward.fit(train, validation, job.directory)
        write_json(job.directory / "skill.json", skill)
        if skill:
            job.log.say(f"  quality on held-out prompts: {in_words(skill)}")


def _stored(rows: list[Row]) -> FloatArray:
    import numpy as np

    return np.array([row.stored for row in rows if row.stored is not None], dtype=np.float64)


def raw_rows(raw: pa.Table) -> list[Row]:
    """Rows of the raw data as input of a scorer."""
    return [
        Row(**row | {"prompt": plain_prompt(parts), "turns": turns(parts)})
        for row in raw.select(["id", "group", "response", "stored", "parts"]).to_pylist()
        for parts in [row.pop("parts")]
    ]
