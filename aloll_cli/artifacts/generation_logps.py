"""Log-probs of generated responses under a policy: the one that generated them, or the reference."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from aloll_cli.artifacts.generations import Generations, GenerationTokens
from aloll_cli.artifacts.policy_source import PolicySource
from aloll_cli.artifacts.tokenizer import Tokenizer
from aloll_cli.store.store import Artifact, Job
from aloll_cli.store.tables import read_blocks, write_blocks

if TYPE_CHECKING:
    import pyarrow as pa

    from aloll_cli.arrays import FloatArray


class GenerationLogps(Artifact):
    """One row per response: id, logp (summed over tokens; null if the model has another vocabulary), tokens.

    The tokens are the generated ones, including the end token, and not those that the text would be encoded as.
    """

    kind, stage = "answer-logps", "evaluate"
    version = 2  # logits of real tokens alone

    def __init__(self, policy: PolicySource, tokenizer: Tokenizer, generations: Generations) -> None:
        """Log-probs of ``generations`` under ``policy``, whose tokenizer is ``tokenizer``."""
        self.policy, self.tokenizer, self.generations = policy, tokenizer, generations
        self.name = f"{generations.name}-under-{policy.name}"

    def identity(self) -> dict[str, Any]:
        return {}

    def inputs(self) -> dict[str, Artifact]:
        return {"policy": self.policy, "tokenizer": self.tokenizer, "answers": self.generations}

    def make(self, job: Job) -> None:
        import numpy as np
        import pyarrow as pa

        from aloll_cli.models.logprobs import ResponseLogps
        from aloll_cli.training.batches import batch_logps

        tokens = GenerationTokens(self.generations, job)
        tokenizer, theirs = (t.load(job) for t in (self.tokenizer, self.generations.examples.tokenizer))
        module = ResponseLogps(self.policy.load(job)) if tokenizer.get_vocab() == theirs.get_vocab() else None
        if module is None:
            job.log.say("  no log-probs: the policy that generated the responses has another vocabulary than this model")

        def compute(start: int, stop: int) -> pa.Table:
            rows = list(range(start, stop))
            counts = [len(tokens.response_ids(row)) for row in rows]
            sums: FloatArray | None = None
            if module is not None:
                logps = batch_logps(module, tokens, rows, int(tokenizer.pad_token_id), job.runtime.scoring_batch_tokens)
                sums = np.array([row.sum(dtype=np.float64) for row in logps])
            column = pa.nulls(len(rows), pa.float64()) if sums is None else sums
            return pa.table({"id": tokens.ids(range(start, stop)), "logp": column, "tokens": counts})

        write_blocks(job, "logps", len(tokens), f"log-probs of responses under {self.policy.name}", compute)


def load_generation_logps(directory: Path) -> tuple[FloatArray, FloatArray] | None:
    """(N,) summed log-probs and (N,) token counts, or None if the model has another vocabulary."""
    table = read_blocks(directory / "logps", ["logp", "tokens"])
    if table.column("logp").null_count:
        return None
    return table.column("logp").to_numpy(), table.column("tokens").to_numpy().astype("float64")
