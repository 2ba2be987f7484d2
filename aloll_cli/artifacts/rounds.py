"""Semi-online training: after each round the policy's own responses to the training prompts join the logged ones.

The next round starts from the policy, which is its π_ref: it has a V(x) and reference log-probs of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aloll_cli.artifacts.examples import ENCODED, Examples
from aloll_cli.artifacts.generations import Generations, PromptDraw, load_generations
from aloll_cli.artifacts.policy import TrainedPolicy
from aloll_cli.artifacts.policy_source import PolicySource
from aloll_cli.errors import UserError
from aloll_cli.files import write_json
from aloll_cli.models.decoding import Sample
from aloll_cli.store.inventory import STANDS_FOR
from aloll_cli.store.store import Artifact, Job
from aloll_cli.store.tables import read_blocks, write_blocks
from aloll_cli.tasks.base import SPLITS
from aloll_cli.tasks.options import Truncated
from aloll_cli.text.examples import COLUMNS

if TYPE_CHECKING:
    import pyarrow as pa
    from transformers import PreTrainedModel

    from aloll_cli.settings.root import Settings


class RoundPolicy(PolicySource):
    """The policy of a round as the next one starts from it.

    In recipes its fingerprint stands for it: a round uses its reference in a score of places, and with the whole recipe of the
    policy in each of them, recipes would grow twentyfold with every round.
    """

    kind, stage = "round", "train"
    resumes = False

    def __init__(self, policy: TrainedPolicy) -> None:
        self.policy, self.model, self.name = policy, policy.model, policy.name

    @property
    def recipe(self) -> dict[str, Any]:  # type: ignore[override]
        return {"kind": self.kind, "version": self.version, "identity": self.identity(), "inputs": {}}

    def identity(self) -> dict[str, Any]:
        return {STANDS_FOR: self.policy.fingerprint}

    def inputs(self) -> dict[str, Artifact]:
        return {"policy": self.policy}

    def make(self, job: Job) -> None:
        if job.world.is_main:
            write_json(job.directory / "policy.json", {"folder": self.policy.folder})

    @property
    def has_adapter(self) -> bool:
        return self.policy.has_adapter

    def load(self, job: Job, in_full: bool = False) -> PreTrainedModel:
        return self.policy.load(job, in_full)

    def load_base(self, job: Job) -> PreTrainedModel:
        return self.policy.load_base(job)

    def address(self, job: Job) -> str:
        return self.policy.address(job)

    def loaded_from(self) -> list[Artifact]:
        return [self.policy, *self.policy.loaded_from()]


class Pool(Examples):
    """The logged examples and, in the train split, the responses of the policies of all rounds so far, in their own tokens.

    The train split is of the prompts that the last policy responded to.
    """

    version = 1
    of_several_policies = True

    def __init__(self, logged: Examples, samples: list[Generations]) -> None:
        super().__init__(logged.task, logged.data, logged.tokenizer)
        self.logged, self.samples = logged, samples
        self.name = f"round-{len(samples) + 1}"

    def identity(self) -> dict[str, Any]:
        return {"unfinished": "dropped"} if self.task.truncated is Truncated.drop else {}

    def inputs(self) -> dict[str, Artifact]:
        own = {f"samples_{number}": samples for number, samples in enumerate(self.samples, start=1)}
        return {"data": self.data, "logged": self.logged} | own

    def make(self, job: Job) -> None:
        import pyarrow as pa
        import pyarrow.compute as pc

        for split in SPLITS:
            table = read_blocks(job.path(self.logged) / split, COLUMNS)
            if split == "train":
                every = [load_generations(job.path(samples)) for samples in self.samples]
                prompts = every[-1].column("group")
                table, *every = (one.filter(pc.is_in(one.column("group"), prompts)) for one in (table, *every))
                own = [
                    _as_examples(table, self.usable(job, responses, number), number)
                    for number, responses in enumerate(every, start=1)
                ]
                told = " and ".join(f"{len(part):,} of round {number}" for number, part in enumerate(own, start=1))
                job.log.say(f"  train: {len(table):,} logged responses, {told}")
                table = pa.concat_tables([table, *own])

            def rows(start: int, stop: int, table: pa.Table = table) -> pa.Table:
                return table.slice(start, stop - start)

            write_blocks(job, split, len(table), f"pool {split}", rows, block=ENCODED)

    def usable(self, job: Job, responses: pa.Table, number: int) -> pa.Table:
        """A round's responses; under ``task.truncated=drop`` those that ended. Raises UserError if none did."""
        if self.task.truncated is Truncated.keep:
            return responses
        ended = responses.filter(responses.column("ended"))
        limit = f"task.max_response_tokens={self.task.max_response_tokens}"
        if not len(ended):
            what = f"none of the {len(responses):,} responses of round {number} ended within {limit}, and task.truncated=drop."
            raise UserError(what, "task.truncated=keep, or a higher task.max_response_tokens")
        if cut := len(responses) - len(ended):
            job.log.say(f"  {cut:,} of {len(responses):,} responses of round {number} did not end within {limit}: left out")
        return ended


def _as_examples(logged: pa.Table, responses: pa.Table, number: int) -> pa.Table:
    """A round's responses with the columns of logged examples; those of the prompt are taken from its first row."""
    import pyarrow as pa
    import pyarrow.compute as pc

    prompts = logged.column("group").to_pylist()
    first = {group: row for row, group in reversed(list(enumerate(prompts)))}
    table = logged.take(pa.array([first[group] for group in responses.column("group").to_pylist()], pa.int64()))  # none, perhaps
    count = len(responses)
    changed = {
        "id": pa.array([f"{name}/{number}" for name in responses.column("id").to_pylist()]),
        "response": responses.column("response"),
        "response_ids": responses.column("response_ids"),
        "response_cut": pa.array([0] * count, pa.int64()),
        "truncated": pc.invert(responses.column("ended")),
        "apart": pa.array([False] * count),
        "stored": pa.nulls(count, pa.float64()),
        "noise": pa.array([False] * count),
    }
    for name, column in changed.items():
        place = table.schema.get_field_index(name)
        field = table.schema.field(place)
        table = table.set_column(place, field, column.cast(field.type))
    return table


def own_responses(policy: RoundPolicy, logged: Examples, settings: Settings, number: int) -> Generations:
    """A policy's responses to training prompts after a round: from its own distribution, which ratios are to.

    Args:
        policy: the policy.
        logged: the examples with the prompts.
        settings: how many responses per prompt (``samples``, or as many as evaluations generate), to how many prompts
            (``round_prompts``), and the decoding of evaluations, whose seed this continues.
        number: of the round; each has random numbers of its own, which V(x) is not estimated with.
    """
    evaluating, prompts = settings.generation, settings.round_prompts
    seed = evaluating.seed if isinstance(evaluating, Sample) else 0
    count = settings.samples or evaluating.samples_per_prompt
    decoding = Sample(samples=count, seed=seed, top_p=1.0, temperature=1.0, repetition_penalty=1.0)
    draw = None if prompts is None else PromptDraw(prompts, settings.seed, number)
    return Generations(policy, logged, "train", decoding, draw=draw, stream=f"round {number}")
