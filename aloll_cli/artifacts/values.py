"""V(x) of the prompt of every logged response, by split."""

from __future__ import annotations

import shutil
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aloll_cli.artifacts.examples import Examples
from aloll_cli.artifacts.policy_source import PolicySource
from aloll_cli.artifacts.rewards import Rewards, load_rewards
from aloll_cli.errors import UserError
from aloll_cli.models.base import Numbers
from aloll_cli.schema import identity, name_of
from aloll_cli.store.store import Artifact, Job, Store
from aloll_cli.store.tables import BLOCK, open_blocks, read_numbers, write_blocks
from aloll_cli.tasks.base import shown
from aloll_cli.text.examples import ExampleTable, prompt_codes
from aloll_cli.user_code import real_numbers
from aloll_cli.values.base import Estimate, Evidence, LoggedRewards, Values

if TYPE_CHECKING:
    import pyarrow as pa
    from torch import Tensor
    from transformers import PreTrainedModel

    from aloll_cli.arrays import FloatArray, IntArray


class ValuesArtifact(Artifact):
    """One row per response, by split: id, value."""

    kind, stage = "values", "precompute-values"

    def __init__(
        self,
        values: Values,
        reference: PolicySource,
        examples: Examples,
        rewards: Rewards,
        samples: Rewards | None,
        numbers: Numbers,
        others: dict[str, Rewards] | None = None,
    ) -> None:
        """Values from logged training rewards and, if the method needs them, rewards of samples of π_ref.

        Hidden states of π_ref are computed in the ``numbers`` that the policy is trained in. ``others`` are rewards of other
        splits, for methods whose V of a split comes from that split's own responses.
        """
        self.values, self.reference, self.examples, self.rewards, self.samples = values, reference, examples, rewards, samples
        self.numbers, self.others = numbers, others or {}
        self.name = name_of(values)

    def identity(self) -> dict[str, Any]:
        return {"values": identity(self.values)} | self.numbers.identity()

    def inputs(self) -> dict[str, Artifact]:
        inputs: dict[str, Artifact] = {"examples": self.examples, "rewards": self.rewards, "reference": self.reference}
        others = {f"rewards_{split}": rewards for split, rewards in self.others.items()}
        return inputs | ({"samples": self.samples} if self.samples else {}) | others

    def check_input(self, needed: Artifact, store: Store) -> None:
        import numpy as np

        if needed.fingerprint == self.examples.fingerprint:
            self.values.check_data(lambda split: np.bincount(prompt_codes(store.path(self.examples) / split)))

    def make(self, job: Job) -> None:
        prompts = _Prompts(job, self)
        rewards = load_rewards(job.path(self.rewards))
        tables = {split: ExampleTable(job.path(self.examples) / split) for split in self.values.splits}
        if self.values.fitted_on and self.values.reads_states:
            prompts.keep(self.values.fitted_on)
        scored = {"train": rewards} | {split: load_rewards(job.path(other)) for split, other in self.others.items()}
        logged = {split: LoggedRewards(scored.get(split), table.groups[0]) for split, table in tables.items()}
        if self.examples.of_several_policies and not self.samples:
            job.log.say("  V(x) is that of all these responses, which are of several policies")
        sampled = None
        if self.samples and self.values.sampled_on:
            count = len(tables[self.values.sampled_on].prompt_names)
            sampled = load_rewards(job.path(self.samples)).reshape(count, -1)
        bounds, log = self.rewards.scored_by.reward.range, job.log
        evidence = Evidence(bounds, logged["train"], sampled, prompts.states, prompts.texts, log.say, log.warn)
        estimate = self.values.estimate(evidence)
        if not isinstance(estimate, Estimate):
            what = f"estimate of values={name_of(self.values)} returned {shown(estimate)}."
            raise UserError(what, "Expected an object of a class that derives from Estimate.")
        for split, table in tables.items():

            def compute(start: int, stop: int, split: str = split, table: ExampleTable = table) -> pa.Table:
                import pyarrow as pa

                values = checked(estimate.of(split, logged[split], slice(start, stop)), stop - start, name_of(self.values))
                return pa.table({"id": table.ids(range(start, stop)), "value": values})

            write_blocks(job, split, len(table), f"values of {split} prompts", compute)
        if job.world.is_main:
            shutil.rmtree(job.directory / "states", ignore_errors=True)
            values = load_values(job.directory, "train")
            positive = float((rewards > values).mean())
            job.log.say(
                f"  V(x) over {len(values):,} training responses: mean {values.mean():.3f}, "
                f"standard deviation {values.std():.3f}; "
                f"positive advantage: {positive:.1%} of responses"
            )


def checked(values: FloatArray, count: int, name: str) -> FloatArray:
    """(N,) values as an estimator gave them. Raises UserError if some are missing, not finite or no numbers."""
    import numpy as np

    try:
        found = real_numbers(values)
    except TypeError:
        found = np.array(np.nan)
    if found.shape != (count,) or not np.isfinite(found).all():
        if found.shape == (count,):
            what = "values that are not finite"
        elif found.ndim == 1:
            what = f"{len(found)} values for {count} responses"
        else:
            what = f"{shown(values)} for {count} responses"
        raise UserError(f"values={name} gave {what}.", "Correct its estimate, or choose another: values=constant")
    return found


class _Prompts:
    """The unique prompts as text and as π_ref's states; states that are fitted on are stored in blocks, so they are resumable."""

    def __init__(self, job: Job, artifact: ValuesArtifact) -> None:
        self._job, self._artifact = job, artifact
        self._kept: dict[str, list[Tensor]] = {}
        self._pad = int(artifact.examples.tokenizer.load(job).pad_token_id)

    @cached_property
    def _model(self) -> PreTrainedModel:
        return self._artifact.reference.load(self._job, self._artifact.numbers.in_full)

    def states(self, split: str, prompts: IntArray) -> list[Tensor]:
        """(P_i, H) hidden states of some of a split's unique prompts; (2, H) if the method reads pooled ones."""
        from aloll_cli.models.value_head import pooled, prompt_states

        if split in self._kept:
            return [self._kept[split][i] for i in prompts]
        examples = self._examples(split)
        first = examples.groups[1]
        ids = [examples.prompt_ids(int(first[i])) for i in prompts]
        with self._artifact.numbers.computing(self._job.world.device):
            states = prompt_states(self._model, ids, self._pad, self._job.runtime.scoring_batch_tokens)
        return [pooled(state) for state in states] if self._artifact.values.pools_states else states

    def texts(self, split: str, prompts: IntArray) -> list[str]:
        """Some of a split's unique prompts, uncut."""
        examples = self._examples(split)
        whole: list[str] = examples.at(examples.groups[1][prompts], ["prompt"]).column("prompt").to_pylist()
        return whole

    def keep(self, split: str) -> None:
        """Compute and keep the states of all prompts of a split; every process computes its share.

        They are mapped from a file, so that memory holds only those in use where it is short.
        """
        import numpy as np
        import pyarrow as pa
        import torch

        def compute(start: int, stop: int) -> pa.Table:
            states = self.states(split, np.arange(start, stop))
            flat = pa.array([s.flatten().numpy() for s in states], type=pa.large_list(pa.float32()))
            return pa.table({"tokens": [len(s) for s in states], "states": flat})

        prompts = len(self._examples(split).groups[1])
        write_blocks(self._job, f"states/{split}", prompts, f"hidden states of {split} prompts", compute, block=BLOCK)
        folder = self._job.directory / "states"
        lengths = read_numbers(folder / split, "tokens")
        stored = open_blocks(folder / split, ["states"])
        width = len(stored.slice(0, 1).column("states")[0]) // int(lengths[0])
        mapped = np.memmap(folder / f"{split}-{self._job.world.rank}", np.float32, "w+", shape=(int(lengths.sum()), width))
        place = 0
        for block in stored.batches():
            states = block.column("states").combine_chunks().flatten().to_numpy().reshape(-1, width)
            mapped[place : place + len(states)] = states
            place += len(states)
        self._kept[split] = list(torch.from_numpy(mapped).split(lengths.tolist()))

    @lru_cache(maxsize=3)  # noqa: B019  the object lives as long as one build
    def _examples(self, split: str) -> ExampleTable:
        return ExampleTable(self._job.path(self._artifact.examples) / split)


def load_values(directory: Path, split: str) -> FloatArray:
    """(N,) values in the order of the split's examples."""
    values: FloatArray = read_numbers(directory / split, "value")
    return values
