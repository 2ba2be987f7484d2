"""Mixed rewards. The scores of each part are an artifact of their own: other weights or transforms need no new scoring."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from aloll_cli.artifacts.data import Data
from aloll_cli.artifacts.fitted_reward import raw_rows
from aloll_cli.artifacts.raw_table import open_data
from aloll_cli.artifacts.rewards import Rewards, ScoredBy, load_rewards, log_summary, score_blocks
from aloll_cli.errors import UserError
from aloll_cli.files import write_json
from aloll_cli.foreign import checked_json, number, record
from aloll_cli.rewards.base import Reward, Row, Scorer
from aloll_cli.rewards.mixed import Mixed, Scale
from aloll_cli.rewards.scoring import check_scores, checked_scores, using
from aloll_cli.rewards.variation import spread, varies
from aloll_cli.store.store import Artifact, Job

if TYPE_CHECKING:
    import pyarrow as pa

    from aloll_cli.arrays import FloatArray

SCALE = record(dict.fromkeys(("least", "greatest", "mean", "deviation"), number))
SAMPLE = 4096  # evenly spaced rows of the raw train split that a scale is fitted on


def scored_by(reward: Reward, data: Data) -> ScoredBy:
    """A reward with the artifacts that it needs for scoring."""
    return MixedBy(reward, data) if isinstance(reward, Mixed) else ScoredBy(reward, data)


class Scaling(Artifact):
    """Mean, deviation and range of a reward on raw training responses (scale.json), before noise and filters."""

    kind, stage = "scale", "score-rewards"

    def __init__(self, part: ScoredBy, data: Data) -> None:
        self.part, self.data = part, data
        self.name = part.reward.label

    def identity(self) -> dict[str, Any]:
        return self.part.identity() | {"sample": SAMPLE}

    def inputs(self) -> dict[str, Artifact]:
        return {"data": self.data} | self.part.inputs()

    def make(self, job: Job) -> None:
        import numpy as np

        raw = open_data(job.path(self.data), "train")
        sample = raw.take(np.unique(np.linspace(0, raw.num_rows - 1, min(raw.num_rows, SAMPLE)).round().astype(int)))
        task = self.data.task
        score_blocks(job, self.part, "raw responses", sample.num_rows, lambda i, j: raw_rows(sample.slice(i, j - i), task))
        job.world.on_main(lambda: self._fit(job))

    def _fit(self, job: Job) -> None:
        rewards = load_rewards(job.directory)
        scale = Scale.of(rewards)
        if not varies(rewards):
            raise UserError(
                f"{self.name} does not vary beyond rounding over the training responses ({spread(rewards)}): it has no scale.",
                "Set reward.parts.NAME.transform=none, or remove the part.",
            )
        write_json(job.directory / "scale.json", asdict(scale))
        job.log.say(
            f"  mean {scale.mean:.3f}, standard deviation {scale.deviation:.3f}, range {scale.least:.3f} to {scale.greatest:.3f}"
        )


class MixedBy(ScoredBy):
    """A mixed reward with the artifacts that its parts need."""

    reward: Mixed

    def __init__(self, reward: Mixed, data: Data) -> None:
        super().__init__(reward, data)
        self.parts = {name: ScoredBy(part.reward, data) for name, part in reward.parts.items()}
        self.scalings = {n: Scaling(self.parts[n], data) for n, part in reward.parts.items() if part.transform.is_fitted}

    def inputs(self) -> dict[str, Artifact]:
        states = {f"{name}_{role}": needed for name, part in self.parts.items() for role, needed in part.inputs().items()}
        return states | {f"{name}_scale": scaling for name, scaling in self.scalings.items()}

    def identity(self) -> dict[str, Any]:
        contents = {name: part.content for name, part in self.parts.items()}
        return super().identity() | {"contents": {name: content for name, content in contents.items() if content}}

    def scales(self, job: Job) -> dict[str, Scale]:
        """Fitted scales by part."""
        return {name: Scale(**checked_json(job.path(scaling) / "scale.json", SCALE)) for name, scaling in self.scalings.items()}

    def scorer(self, job: Job) -> Scorer:
        loads = {name: partial(part.scorer, job) for name, part in self.parts.items()}
        return _MixedScorer(self.reward, loads, self.scales(job))

    def skills(self, job: Job) -> dict[str, dict[str, float]]:
        found = {name: part.skills(job).get("") for name, part in self.parts.items()}
        return {name: skill for name, skill in found.items() if skill}

    def components(self) -> list[str]:
        return list(self.parts)

    def rewards(self, source: Artifact, table: str) -> Rewards:
        return MixedRewards(self, source, table)


class _MixedScorer(Scorer):
    """Scores all rows with one part after another; only one is in memory at a time."""

    def __init__(self, reward: Mixed, loads: Mapping[str, Callable[[], Scorer]], scales: Mapping[str, Scale]) -> None:
        self._reward, self._loads, self._scales = reward, loads, scales

    def score(self, rows: Sequence[Row]) -> FloatArray:
        scores = {name: self._part(name, rows) for name in self._loads}
        return self._reward.total(scores, self._scales)

    def _part(self, name: str, rows: Sequence[Row]) -> FloatArray:
        reward = self._reward.parts[name].reward
        return using(self._loads[name], lambda scorer: checked_scores(reward, scorer, rows))


class MixedRewards(Rewards):
    """One row per response: id, score of each part, reward (weighted sum of the transformed scores)."""

    scored_by: MixedBy

    def __init__(self, scored_by: MixedBy, source: Artifact, table: str) -> None:
        super().__init__(scored_by, source, table)
        self.parts = {name: part.rewards(source, table) for name, part in scored_by.parts.items()}

    def inputs(self) -> dict[str, Artifact]:
        scales = {f"{name}_scale": scaling for name, scaling in self.scored_by.scalings.items()}
        return {**self.parts, **scales}

    def make(self, job: Job) -> None:
        import pyarrow as pa

        from aloll_cli.store.tables import read_blocks, write_blocks

        tables = {name: read_blocks(job.path(part) / "rewards", ["id", "reward"]) for name, part in self.parts.items()}
        ids = next(iter(tables.values())).column("id")
        scores: dict[str, FloatArray] = {name: table.column("reward").to_numpy() for name, table in tables.items()}
        total = self.scored_by.reward.total(scores, self.scored_by.scales(job))
        check_scores(self.scored_by.reward, total, lambda i: str(ids[i]))

        def add(start: int, stop: int) -> pa.Table:
            columns = {name: values[start:stop] for name, values in scores.items()}
            return pa.table({"id": ids.slice(start, stop - start)} | columns | {"reward": total[start:stop]})

        write_blocks(job, "rewards", len(ids), f"combine rewards of {self.table}", add)
        log_summary(job, self)
