"""Log-likelihood of a split's logged responses under a policy: what it forgot, and how rewards that score no text evaluate it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from aloll_cli.artifacts.examples import Examples
from aloll_cli.artifacts.policy_source import PolicySource
from aloll_cli.store.store import Artifact, Job
from aloll_cli.store.tables import read_numbers, write_blocks
from aloll_cli.text.examples import ExampleTable

if TYPE_CHECKING:
    import pyarrow as pa

    from aloll_cli.arrays import FloatArray


class Likelihoods(Artifact):
    """One row per logged response: id, logp (summed over tokens), tokens."""

    kind, stage = "likelihoods", "evaluate"
    version = 2  # logits of real tokens alone

    def __init__(self, policy: PolicySource, examples: Examples, split: str) -> None:
        self.policy, self.examples, self.split = policy, examples, split
        self.name = f"{policy.name}-{split}"

    def identity(self) -> dict[str, Any]:
        return {"split": self.split}

    def inputs(self) -> dict[str, Artifact]:
        return {"policy": self.policy, "examples": self.examples}

    def make(self, job: Job) -> None:
        import numpy as np
        import pyarrow as pa

        from aloll_cli.models.logprobs import ResponseLogps
        from aloll_cli.training.batches import batch_logps

        examples = ExampleTable(job.path(self.examples) / self.split)
        pad = int(self.examples.tokenizer.load(job).pad_token_id)
        module = ResponseLogps(self.policy.load(job))

        def compute(start: int, stop: int) -> pa.Table:
            logps = batch_logps(module, examples, list(range(start, stop)), pad, job.runtime.scoring_batch_tokens)
            sums = np.array([row.sum(dtype=np.float64) for row in logps])
            return pa.table({"id": examples.ids(range(start, stop)), "logp": sums, "tokens": [len(row) for row in logps]})

        write_blocks(job, "likelihoods", len(examples), f"log-likelihood of {self.split} responses", compute)


def load_likelihoods(directory: Path) -> tuple[FloatArray, FloatArray]:
    """(N,) summed log-probs and (N,) token counts."""
    logps, tokens = (read_numbers(directory / "likelihoods", name) for name in ("logp", "tokens"))
    return logps, tokens.astype("float64")
