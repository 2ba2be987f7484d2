"""Responses of a policy to every distinct prompt of a split."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aloll_cli.artifacts.examples import Examples
from aloll_cli.artifacts.policy_source import PolicySource, check_context
from aloll_cli.models.decoding import Generation
from aloll_cli.models.saving import load_tokenizer
from aloll_cli.schema import identity
from aloll_cli.store.store import Artifact, Job
from aloll_cli.store.tables import read_blocks, write_blocks
from aloll_cli.text.examples import ExampleTable
from aloll_cli.text.packing import longest_first

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

    from aloll_cli.arrays import IntArray


class Generations(Artifact):
    """One row a response: id, group (the prompt's identity), prompt, turns, response, response_ids, tokens, ended, stored (null).

    The responses to a prompt stand together, as many for each, in the order of the prompts. Prompts are answered by falling
    length, so that a block holds prompts of like length and little padding.
    """

    kind, stage = "generations", "evaluate"
    version = 3

    def __init__(self, policy: PolicySource, examples: Examples, split: str, generation: Generation) -> None:
        self.policy, self.examples, self.split, self.generation = policy, examples, split, generation
        self.name = f"{policy.name}-{split}"

    def identity(self) -> dict[str, Any]:
        return {"split": self.split, "generation": identity(self.generation)}

    def inputs(self) -> dict[str, Artifact]:
        return {"policy": self.policy, "examples": self.examples}

    def make(self, job: Job) -> None:
        import numpy as np
        import pyarrow as pa

        from aloll_cli.models.generation import respond

        examples = ExampleTable(job.path(self.examples) / self.split)
        tokenizer = load_tokenizer(job.path(self.examples.tokenizer))
        model = self.policy.load(job)
        check_context(model, self.examples)
        task = self.examples.task
        prompts = np.repeat(examples.groups[1], self.generation.answers)
        names = [name for group in examples.prompt_names for name in self.generation.names(group)]
        order = longest_first(examples.prompt_lengths()[prompts])

        def generate(start: int, stop: int) -> pa.Table:
            places = order[start:stop]
            rows = [examples.table.slice(int(i), 1).to_pylist()[0] for i in prompts[places]]
            ids = [names[i] for i in places]
            responses = respond(
                model, tokenizer, [examples.prompt_ids(int(i)) for i in prompts[places]], ids, self.generation, step=0,
                max_tokens=task.max_response_tokens, stop=task.stop, batch_tokens=job.runtime.scoring_batch_tokens,
                advance=job.log.advance,
            )  # fmt: skip
            return pa.table({
                "place": places, "id": ids, "group": [row["group"] for row in rows], "prompt": [row["prompt"] for row in rows],
                "turns": examples.table.column("turns").take(prompts[places]),
                "response": [r.text for r in responses], "tokens": [r.tokens for r in responses],
                "response_ids": pa.array([r.ids for r in responses], type=pa.list_(pa.int64())),
                "ended": [r.ended for r in responses], "stored": pa.nulls(len(rows), pa.float64()),
            })  # fmt: skip

        write_blocks(job, "responses", len(prompts), f"answer {self.split} prompts", generate)


def load_generations(directory: Path) -> pa.Table:
    """The table of a Generations artifact."""
    return read_blocks(directory / "responses")


class AnswerTokens:
    """What was asked and what the model gave, as its own tokens, by row of a Generations artifact."""

    def __init__(self, answers: Generations, job: Job) -> None:
        self._examples = ExampleTable(job.path(answers.examples) / answers.split)
        self._answers = ExampleTable(job.path(answers) / "responses")
        self._each = answers.generation.answers

    def __len__(self) -> int:
        return len(self._answers)

    @property
    def ids(self) -> list[str]:
        """The names of the rows."""
        return self._answers.ids

    def prompt_ids(self, row: int) -> IntArray:
        """Token ids of a row's prompt."""
        return self._examples.prompt_ids(int(self._examples.groups[1][row // self._each]))

    def response_ids(self, row: int) -> IntArray:
        """Token ids of a row's answer."""
        return self._answers.response_ids(row)
