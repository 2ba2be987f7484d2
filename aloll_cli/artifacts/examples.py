"""What the model sees: the chosen responses, tokenised and cut, by split."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aloll_cli.artifacts.base import Artifact, Job
from aloll_cli.artifacts.data import Data, load_data, open_data
from aloll_cli.artifacts.tokenizer import Tokenizer
from aloll_cli.config import identity
from aloll_cli.errors import UserError
from aloll_cli.tables import Rows, read_blocks, write_blocks
from aloll_cli.tasks.base import SPLITS, Chat, Responses, Task, Truncated, plain_prompt, turns

if TYPE_CHECKING:
    import pyarrow as pa

    from aloll_cli.arrays import IntArray

ENCODED = 4096  # rows of a block: encoding is quick, and a million rows are to be a few hundred files


class Examples(Artifact):
    """One row a response: id, group, prompt (whole), turns, prompt_ids, prompt_cut, response (as trained on), response_ids, …"""

    kind, stage = "examples", "score-rewards"
    version = 2  # larger blocks; response_cut, the tokens that a response lost
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
            directory = job.path(self.data)
            chosen = chosen_rows(load_data(directory, split, ["group", "position", "stored"]), self.task.responses)
            raw = open_data(directory, split)

            def encode(start: int, stop: int, raw: Rows = raw, chosen: IntArray = chosen) -> pa.Table:
                return encoded(raw.take(chosen[start:stop]), encoder, self.task.truncated)

            write_blocks(job, split, len(chosen), f"encode {split}", encode, block=ENCODED)
            _say_counts(job, split, len(chosen))
        self._say_how_chats_are_shown(job)

    def _say_how_chats_are_shown(self, job: Job) -> None:
        import pyarrow.compute as pc

        parts = (batch.column("parts") for batch in open_data(job.path(self.data), "train", ["parts"]).batches())
        is_chat = any(role.null_count < len(role) for role in (pc.struct_field(pc.list_flatten(p), "role") for p in parts))
        templated = pc.any(read_blocks(job.directory / "train", ["templated"]).column("templated")).as_py()
        if templated and self.task.stop:
            job.log.say(f"  chats in the model's template; answers end before {self.task.stop}, too, unless task.stop=[]")
        elif templated:
            job.log.say("  chats in the model's template")
        elif is_chat:
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

        codes = numbered(self.table.column("group"))
        return codes, np.unique(codes, return_index=True)[1]

    @cached_property
    def prompt_names(self) -> list[str]:
        """(G,) the identity of each distinct prompt, in order of appearance."""
        names: list[str] = self.table.column("group").take(self.groups[1]).to_pylist()
        return names

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
        for name in ("prompt_ids", "response_ids"):
            column = self.table.column(name).chunk(0)
            arrays[name] = (column.values.to_numpy(), column.offsets.to_numpy())
        return arrays

    def _lengths(self, name: str) -> IntArray:
        import numpy as np

        return np.asarray(np.diff(self._arrays[name][1]), dtype=np.int64)

    def _tokens(self, name: str, row: int) -> IntArray:
        values, offsets = self._arrays[name]
        return values[offsets[row] : offsets[row + 1]]


def chosen_rows(raw: pa.Table, responses: Responses) -> IntArray:
    """Indices of the responses that the task learns from, in order.

    Raises:
        UserError: a choice by stored reward where none is stored.
    """
    import numpy as np

    if responses is Responses.all:
        return np.arange(raw.num_rows)
    if responses is Responses.first:
        return np.flatnonzero(raw.column("position").to_numpy() == 0)
    if raw.column("stored").null_count:
        raise UserError(f"task.responses={responses.name} compares stored rewards, and the data has none.", "task.responses=all")
    worst_first = raw.column("stored").to_numpy() * (1 if responses is Responses.best else -1)
    groups = numbered(raw.column("group"))
    order = np.lexsort((np.arange(raw.num_rows), -worst_first, groups))  # by prompt, the best first, the first of equals first
    return np.sort(order[np.unique(groups[order], return_index=True)[1]])


def numbered(column: pa.ChunkedArray) -> IntArray:
    """(N,) a number for each distinct text, 0 for the first to appear."""
    import numpy as np

    return np.asarray(column.combine_chunks().dictionary_encode().indices, dtype=np.int64)


def encoded(raw: pa.Table, encoder: Any, truncated: Truncated) -> pa.Table:
    """Raw responses → examples."""
    import numpy as np
    import pyarrow as pa

    rows = raw.to_pylist()
    prompts = encoder.prompts([row["parts"] for row in rows])
    responses = encoder.responses([row["response"] for row in rows], prompts)
    kept = np.array([truncated is Truncated.keep or not response.truncated for response in responses], dtype=bool)
    turn = pa.struct([("role", pa.string()), ("content", pa.string())])
    table = pa.table({
        "id": raw.column("id"),
        "group": raw.column("group"),
        "prompt": pa.array([plain_prompt(row["parts"]) for row in rows], pa.string()),
        "turns": pa.array([turns(row["parts"]) for row in rows], pa.list_(turn)),
        "prompt_ids": _lists([prompt.ids for prompt in prompts]),
        "prompt_cut": pa.array([prompt.cut for prompt in prompts], pa.int64()),
        "response": pa.array([response.text for response in responses], pa.string()),
        "response_ids": _lists([response.ids for response in responses]),
        "response_cut": pa.array([response.cut for response in responses], pa.int64()),
        "truncated": pa.array([response.truncated for response in responses], pa.bool_()),
        "templated": pa.array([prompt.templated for prompt in prompts], pa.bool_()),
        "stored": raw.column("stored"),
    })  # fmt: skip
    return table if kept.all() else table.filter(kept)


def _lists(rows: list[list[int]]) -> pa.ListArray:
    import numpy as np
    import pyarrow as pa

    offsets = np.cumsum([0, *map(len, rows)], dtype=np.int32)
    return pa.ListArray.from_arrays(offsets, np.fromiter(chain.from_iterable(rows), np.int64, offsets[-1]))


def _say_counts(job: Job, split: str, read: int) -> None:
    import pyarrow.compute as pc

    table = read_blocks(job.directory / split, ["prompt_cut", "truncated"])
    if not table.num_rows:
        raise UserError(f"the {split} split has no examples left.", "task.truncated=keep, or another task.path")
    cut = pc.sum(pc.greater(table.column("prompt_cut"), 0)).as_py()
    truncated = pc.sum(table.column("truncated")).as_py()
    dropped = f", {read - table.num_rows} dropped as too long" if read > table.num_rows else ""
    job.log.say(f"  {split}: {table.num_rows} responses, {cut} with a cut prompt, {truncated} cut themselves{dropped}")
