"""ln π(y) of the answers that a policy gave, under itself or under the other side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from aloll_cli.artifacts.generations import AnswerTokens, Generations
from aloll_cli.artifacts.policy_source import PolicySource
from aloll_cli.artifacts.tokenizer import Tokenizer
from aloll_cli.models.saving import load_tokenizer
from aloll_cli.store.store import Artifact, Job
from aloll_cli.store.tables import read_blocks, write_blocks

if TYPE_CHECKING:
    import pyarrow as pa

    from aloll_cli.arrays import FloatArray


class GenerationLogps(Artifact):
    """One row an answer: id, logp (its sum over tokens; null where the model has other tokens), tokens.

    An answer's tokens are those that were given, not those its text would be encoded as: what ends it is one of them.
    """

    kind, stage = "answer-logps", "evaluate"

    def __init__(self, policy: PolicySource, tokenizer: Tokenizer, answers: Generations) -> None:
        """Under ``policy``, which reads the tokens of ``tokenizer``."""
        self.policy, self.tokenizer, self.answers = policy, tokenizer, answers
        self.name = f"{answers.name}-under-{policy.name}"

    def identity(self) -> dict[str, Any]:
        return {}

    def inputs(self) -> dict[str, Artifact]:
        return {"policy": self.policy, "tokenizer": self.tokenizer, "answers": self.answers}

    def make(self, job: Job) -> None:
        import numpy as np
        import pyarrow as pa

        from aloll_cli.models.logprobs import ResponseLogps
        from aloll_cli.training.batches import batch_logps

        answers = AnswerTokens(self.answers, job)
        tokenizer, theirs = (load_tokenizer(job.path(t)) for t in (self.tokenizer, self.answers.examples.tokenizer))
        module = ResponseLogps(self.policy.load(job)) if tokenizer.get_vocab() == theirs.get_vocab() else None
        if module is None:
            job.log.say("  the answers are made of other tokens than this model's: no log-probs")

        def compute(start: int, stop: int) -> pa.Table:
            rows = list(range(start, stop))
            counts = [len(answers.response_ids(row)) for row in rows]
            sums: FloatArray | None = None
            if module is not None:
                logps = batch_logps(module, answers, rows, int(tokenizer.pad_token_id), job.runtime.scoring_batch_tokens)
                sums = np.array([row.sum(dtype=np.float64) for row in logps])
            column = pa.nulls(len(rows), pa.float64()) if sums is None else sums
            return pa.table({"id": answers.ids[start:stop], "logp": column, "tokens": counts})

        write_blocks(job, "logps", len(answers), f"log-probs of answers under {self.policy.name}", compute)


def load_answer_logps(directory: Path) -> tuple[FloatArray, FloatArray] | None:
    """(N,) summed log-probs and (N,) tokens, or None where the model has other tokens than the answers."""
    table = read_blocks(directory / "logps")
    if table.column("logp").null_count:
        return None
    return table.column("logp").to_numpy(), table.column("tokens").to_numpy().astype("float64")
