"""Per-token log-probs of training responses under π_ref; constant in training, so computed once (4 bytes per token)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aloll_cli.artifacts.examples import Examples
from aloll_cli.artifacts.policy_source import PolicySource
from aloll_cli.models.base import Numbers
from aloll_cli.store.store import Artifact, Job, Store
from aloll_cli.store.tables import read_blocks, write_blocks
from aloll_cli.text.examples import ExampleTable

if TYPE_CHECKING:
    from aloll_cli.arrays import Float32Array, IntArray
    from aloll_cli.artifacts.training_data import LoggedData
    from aloll_cli.training.batches import Tokens
    from aloll_cli.training.sampling import Draws

LogpsOf = Callable[[list[int]], list["Float32Array"]]  # rows → their log-probs, (T,) each


class ReferenceLogps(Artifact):
    """One row per training response: id, row, logps (list<float32>, one per token of response_ids)."""

    kind, stage = "reference-logps", "train"
    version = 3  # rows are numbered; logits of real tokens alone

    def __init__(self, reference: PolicySource, examples: Examples, numbers: Numbers) -> None:
        """Log-probs in the ``numbers`` that the policy is trained in."""
        self.reference, self.examples, self.numbers = reference, examples, numbers
        self.name = reference.name

    def identity(self) -> dict[str, Any]:
        return {"split": "train"} | self.numbers.identity()

    def inputs(self) -> dict[str, Artifact]:
        return {"reference": self.reference, "examples": self.examples}

    def make(self, job: Job) -> None:
        import numpy as np

        examples = ExampleTable(job.path(self.examples) / "train")
        write_logps(job, examples, np.arange(len(examples)), self.computing(job, examples))

    def computing(self, job: Job, examples: Tokens) -> LogpsOf:
        """The function that computes log-probs of some rows of some examples."""
        from aloll_cli.models.logprobs import ResponseLogps
        from aloll_cli.training.batches import batch_logps

        pad = int(self.examples.tokenizer.load(job).pad_token_id)
        module = ResponseLogps(self.reference.load(job, self.numbers.in_full))

        def compute(rows: list[int]) -> list[Float32Array]:
            with self.numbers.computing(job.world.device):
                return batch_logps(module, examples, rows, pad, job.runtime.scoring_batch_tokens)

        return compute


class DrawnLogps(Artifact):
    """The same for the rows that one run draws; runs that draw the same way share it.

    Where that is less than half of all rows, they are computed; else they are taken from the table of all rows, which is built
    if it is not there. What other runs have built makes no difference.
    """

    kind, stage = "reference-logps", "train"
    version = 2  # as version 3 of the table of all rows

    def __init__(self, every: ReferenceLogps, data: LoggedData, draws: Draws) -> None:
        self.every, self.data, self.draws = every, data, draws
        self.examples, self.name = every.examples, f"{every.name}-drawn-s{draws.seed}"

    def identity(self) -> dict[str, Any]:
        return self.every.identity() | {"feed": self.data.drawing(), "draws": self.draws.identity()}

    def inputs(self) -> dict[str, Artifact]:
        return self.data.signals() | self.every.inputs()

    def check_input(self, needed: Artifact, store: Store) -> None:
        self.data.check_input(needed, store)

    def make(self, job: Job) -> None:
        loaded = self.data.load(job)
        examples, rows = loaded.examples, loaded.drawn(self.draws)
        job.log.say(f"  drawn in training: {len(rows):,} of {len(examples):,} responses ({len(rows) / len(examples):.1%})")
        if 2 * len(rows) < len(examples):
            compute = self.every.computing(job, examples.tokens(rows))
        else:
            table = LogpTable(job.store.ensure(self.every))

            def compute(rows: list[int]) -> list[Float32Array]:
                return [table.row(row) for row in rows]

        write_logps(job, examples, rows, compute)


def write_logps(job: Job, examples: ExampleTable, rows: IntArray, compute: LogpsOf) -> None:
    """Write the table ``logps`` of some rows, ascending."""
    import pyarrow as pa

    def block(start: int, stop: int) -> pa.Table:
        chosen = rows[start:stop].tolist()
        logps = pa.array(compute(chosen), type=pa.list_(pa.float32()))
        return pa.table({"id": examples.ids(chosen), "row": pa.array(chosen, type=pa.int64()), "logps": logps})

    write_blocks(job, "logps", len(rows), "reference log-probs", block)


class LogpTable:
    """Stored log-probs, by row."""

    def __init__(self, directory: Path) -> None:
        table = read_blocks(directory / "logps", ["row", "logps"])
        column = table.column("logps").chunk(0)
        self.rows: IntArray = table.column("row").to_numpy()
        self._values, self._offsets = column.values.to_numpy(), column.offsets.to_numpy()

    def row(self, index: int) -> Float32Array:
        """(T,) log-probs of a response's tokens. Raises KeyError if the table does not have this row."""
        place = int(self.rows.searchsorted(index))
        if place == len(self.rows) or self.rows[place] != index:
            raise KeyError(index)
        row: Float32Array = self._values[self._offsets[place] : self._offsets[place + 1]]
        return row
