"""What the model sees: the chosen responses, tokenised and cut, by split."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aloll_cli.artifacts.base import Artifact, Job
from aloll_cli.artifacts.data import Data, load_data
from aloll_cli.artifacts.tokenizer import Tokenizer
from aloll_cli.choices import chosen_rows, noise_sources, of_subsets, within
from aloll_cli.config import identity
from aloll_cli.errors import UserError
from aloll_cli.tables import read_blocks, write_blocks
from aloll_cli.tasks.base import SPLITS, Chat, Task, Truncated, plain_prompt, turns

if TYPE_CHECKING:
    import pyarrow as pa

    from aloll_cli.arrays import BoolArray, IntArray


class Examples(Artifact):
    """One row a response: id, group, prompt (whole), turns, prompt_ids, prompt_cut, response (as trained on), response_ids, …"""

    kind, stage = "examples", "score-rewards"
    version = 2
    resumes = False

    def __init__(self, task: Task, data: Data, tokenizer: Tokenizer) -> None:
        self.task, self.data, self.tokenizer = task, data, tokenizer
        self.name = f"{task.responses.name}-{task.max_prompt_tokens}-{task.max_response_tokens}"

    def identity(self) -> dict[str, Any]:
        return {"task": identity(self.task)}

    def inputs(self) -> dict[str, Artifact]:
        return {"data": self.data, "tokenizer": self.tokenizer}

    def make(self, job: Job) -> None:
        from aloll_cli.encoding import Encoder
        from aloll_cli.models import load_tokenizer

        tokenizer = load_tokenizer(job.path(self.tokenizer))
        encoder = Encoder(tokenizer, self.task.max_prompt_tokens, self.task.max_response_tokens, self.task.chat)
        for split in SPLITS:
            raw = learned(load_data(job.path(self.data), split), self.task, split, job)

            def encode(start: int, stop: int, raw: pa.Table = raw) -> pa.Table:
                return encoded(raw.slice(start, stop - start), encoder, self.task.truncated)

            write_blocks(job, split, raw.num_rows, f"encode {split}", encode)
            table = ExampleTable(job.directory / split)
            _say_counts(job, split, raw.num_rows, table)
        self._say_how_chats_are_shown(job)

    def _say_how_chats_are_shown(self, job: Job) -> None:
        import pyarrow.compute as pc

        roles = pc.struct_field(pc.list_flatten(load_data(job.path(self.data), "train").column("parts")), "role")
        templated = pc.sum(ExampleTable(job.directory / "train").table.column("templated")).as_py()
        if templated and self.task.stop:
            job.log.say(f"  chats in the model's template; answers end before {self.task.stop}, too, unless task.stop=[]")
        elif templated:
            job.log.say("  chats in the model's template")
        elif roles.null_count < len(roles):
            why = "task.chat=plain" if self.task.chat is Chat.plain else "the tokenizer has no template"
            job.log.say(f"  chats as plain text: {why}")


@dataclass(frozen=True)
class ExampleTable:
    """The examples of one split, in memory as Arrow columns."""

    directory: Path

    @cached_property
    def table(self) -> pa.Table:
        return read_blocks(self.directory)

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @cached_property
    def ids(self) -> list[str]:
        names: list[str] = self.table.column("id").to_pylist()
        return names

    @cached_property
    def groups(self) -> tuple[IntArray, IntArray]:
        """(N,) which distinct prompt a row has, and (G,) the first row of each distinct prompt, in order of appearance."""
        import numpy as np

        names = self.table.column("group").to_numpy()
        _, first, inverse = np.unique(names, return_index=True, return_inverse=True)
        order = np.argsort(first)
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        return rank[inverse], first[order]

    @cached_property
    def prompt_names(self) -> list[str]:
        """(G,) the identity of each distinct prompt, in order of appearance."""
        names: list[str] = self.table.column("group").take(self.groups[1]).to_pylist()
        return names

    @cached_property
    def noise(self) -> BoolArray:
        """(N,) whether a response was replaced by one to another prompt."""
        noise: BoolArray = self.table.column("noise").to_numpy()
        return noise

    def prompt_ids(self, row: int) -> IntArray:
        """Token ids of a row's prompt."""
        return self._tokens("prompt_ids", row)

    def response_ids(self, row: int) -> IntArray:
        """Token ids of a row's response."""
        return self._tokens("response_ids", row)

    def prompt_lengths(self) -> IntArray:
        """(N,) tokens of each prompt."""
        return self._lengths("prompt_ids")

    def response_lengths(self) -> IntArray:
        """(N,) tokens of each response."""
        return self._lengths("response_ids")

    @cached_property
    def _arrays(self) -> dict[str, tuple[IntArray, IntArray]]:
        arrays = {}
        for name in {"prompt_ids", "response_ids"} & set(self.table.column_names):
            column = self.table.column(name).chunk(0)
            arrays[name] = (column.values.to_numpy(), column.offsets.to_numpy())
        return arrays

    def _lengths(self, name: str) -> IntArray:
        import numpy as np

        return np.asarray(np.diff(self._arrays[name][1]), dtype=np.int64)

    def _tokens(self, name: str, row: int) -> IntArray:
        values, offsets = self._arrays[name]
        return values[offsets[row] : offsets[row + 1]]


def learned(raw: pa.Table, task: Task, split: str, job: Job) -> pa.Table:
    """The responses of a split that the task learns from, with its noise."""
    import pyarrow as pa

    read = raw.num_rows
    if task.subsets is not None:
        raw = raw.filter(pa.array(of_subsets(raw, task.subsets)))
    if split == "train" and (task.min_reward is not None or task.max_reward is not None):
        raw = raw.filter(pa.array(within(raw, task.min_reward, task.max_reward)))
    if raw.num_rows < read:
        job.log.say(f"  {split}: {raw.num_rows} of {read} responses are of the subsets and stored rewards that are learned from")
    raw = raw.take(chosen_rows(raw, task.responses))
    return (
        with_noise(raw, task, job) if split == "train" and task.noise else raw.append_column("noise", pa.repeat(False, len(raw)))
    )


def with_noise(raw: pa.Table, task: Task, job: Job) -> pa.Table:
    """Responses, a share of them replaced by responses to other prompts: of what is stored nothing is known about these."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    groups = raw.column("group").combine_chunks().dictionary_encode().indices.to_numpy()
    sources = noise_sources(raw.column("id").to_pylist(), groups, task.noise, task.noise_seed)
    noise = pa.array(sources != np.arange(len(raw)))
    job.log.say(f"  train: {pc.sum(noise).as_py()} of {len(raw)} responses replaced by responses to other prompts")
    changed = {
        "response": raw.column("response").take(pa.array(sources)),
        "stored": pc.if_else(noise, None, raw.column("stored")),
    }
    for name, column in changed.items():
        raw = raw.set_column(raw.schema.get_field_index(name), name, column)
    return raw.append_column("noise", noise)


def encoded(raw: pa.Table, encoder: Any, truncated: Truncated) -> pa.Table:
    """Raw responses → examples."""
    import pyarrow as pa

    rows = raw.to_pylist()
    prompts = encoder.prompts([row["parts"] for row in rows])
    responses = encoder.responses([row["response"] for row in rows], prompts)
    kept = [
        {
            "id": row["id"], "group": row["group"], "prompt": plain_prompt(row["parts"]), "turns": turns(row["parts"]),
            "prompt_ids": prompt.ids, "prompt_cut": prompt.cut, "response": response.text,
            "response_ids": response.ids, "truncated": response.truncated, "templated": prompt.templated, "stored": row["stored"],
            "noise": row["noise"],
        }
        for row, prompt, response in zip(rows, prompts, responses, strict=True)
        if truncated is Truncated.keep or not response.truncated
    ]  # fmt: skip
    ids = pa.list_(pa.int64())
    turn = pa.struct([("role", pa.string()), ("content", pa.string())])
    schema = pa.schema([
        ("id", pa.string()), ("group", pa.string()), ("prompt", pa.string()), ("turns", pa.list_(turn)), ("prompt_ids", ids),
        ("prompt_cut", pa.int64()), ("response", pa.string()), ("response_ids", ids), ("truncated", pa.bool_()),
        ("templated", pa.bool_()),
        ("stored", pa.float64()), ("noise", pa.bool_()),
    ])  # fmt: skip
    return pa.Table.from_pylist(kept, schema=schema)


def _say_counts(job: Job, split: str, read: int, examples: ExampleTable) -> None:
    import pyarrow.compute as pc

    if not len(examples):
        raise UserError(f"the {split} split has no examples left.", "task.truncated=keep, or another task.path")
    cut = pc.sum(pc.greater(examples.table.column("prompt_cut"), 0)).as_py()
    truncated = pc.sum(examples.table.column("truncated")).as_py()
    dropped = f", {read - len(examples)} dropped as too long" if read > len(examples) else ""
    job.log.say(f"  {split}: {len(examples)} responses, {cut} with a cut prompt, {truncated} cut themselves{dropped}")
