"""Per-token log-probs of every training response under π_ref; constant in training, so computed once (4 bytes per token)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from aloll_cli.artifacts.examples import Examples
from aloll_cli.artifacts.policy_source import PolicySource
from aloll_cli.models.base import Numbers
from aloll_cli.store.store import Artifact, Job
from aloll_cli.store.tables import read_blocks, write_blocks
from aloll_cli.text.examples import ExampleTable

if TYPE_CHECKING:
    import pyarrow as pa

    from aloll_cli.arrays import Float32Array


class ReferenceLogps(Artifact):
    """One row per training response: id, logps (list<float32>, one per token of response_ids)."""

    kind, stage = "reference-logps", "precompute-values"

    def __init__(self, reference: PolicySource, examples: Examples, numbers: Numbers) -> None:
        """Log-probs in the ``numbers`` that the policy is trained in."""
        self.reference, self.examples, self.numbers = reference, examples, numbers
        self.name = reference.name

    def identity(self) -> dict[str, Any]:
        return {"split": "train"} | self.numbers.identity()

    def inputs(self) -> dict[str, Artifact]:
        return {"reference": self.reference, "examples": self.examples}

    def make(self, job: Job) -> None:
        import pyarrow as pa

        from aloll_cli.models.logprobs import ResponseLogps
        from aloll_cli.training.batches import batch_logps

        examples = ExampleTable(job.path(self.examples) / "train")
        pad = int(self.examples.tokenizer.load(job).pad_token_id)
        module = ResponseLogps(self.reference.load(job, self.numbers.in_full))

        def compute(start: int, stop: int) -> pa.Table:
            with self.numbers.computing(job.world.device):
                logps = batch_logps(module, examples, list(range(start, stop)), pad, job.runtime.scoring_batch_tokens)
            return pa.table({"id": examples.ids[start:stop], "logps": pa.array(logps, type=pa.list_(pa.float32()))})

        write_blocks(job, "logps", len(examples), "reference log-probs", compute)


class LogpTable:
    """Stored log-probs, by row."""

    def __init__(self, directory: Path) -> None:
        column = read_blocks(directory / "logps").column("logps").chunk(0)
        self._values, self._offsets = column.values.to_numpy(), column.offsets.to_numpy()

    def row(self, index: int) -> Float32Array:
        """(T,) log-probs of a response's tokens."""
        row: Float32Array = self._values[self._offsets[index] : self._offsets[index + 1]]
        return row
