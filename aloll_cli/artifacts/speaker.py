"""A policy in memory that responds to any prompt: to those of a split, and to what somebody types."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

from aloll_cli.artifacts.policy_source import PolicySource
from aloll_cli.artifacts.rewards import ScoredBy
from aloll_cli.artifacts.tokenizer import Tokenizer
from aloll_cli.errors import UserError
from aloll_cli.models.decoding import Generation, Sample
from aloll_cli.rewards.base import Row
from aloll_cli.rewards.scoring import checked_scores, using
from aloll_cli.schema import name_of
from aloll_cli.store.store import Job, Store, upstream
from aloll_cli.tasks.base import BadRow, Part, Task, Turn, plain_prompt, turns
from aloll_cli.tasks.splits import prompt_key
from aloll_cli.text.encoded import Around

if TYPE_CHECKING:
    from pathlib import Path

    from aloll_cli.arrays import FloatArray, IntArray
    from aloll_cli.models.responses import Response
    from aloll_cli.text.encoding import Encoder


@dataclass(frozen=True)
class Question:
    """A prompt, as people and rewards read it and as the model does.

    Attributes:
        group: its identity, which seeds the random numbers of its responses.
        prompt: as plain text, uncut.
        turns: as chat turns; the last one is the assistant's in a chat, and the user's in a text.
        ids: (P,) token ids, cut to the limit.
        cut: how many tokens were cut off.
        around: what a chat template writes around a response.
        templated: whether the model's chat template was used.
    """

    group: str
    prompt: str
    turns: Sequence[Turn]
    ids: IntArray
    cut: int
    around: Around
    templated: bool


def questions_of(examples: Path, split: str, count: int | None) -> list[Question]:
    """The first ``count`` prompts of a split's examples, or all."""
    import numpy as np

    from aloll_cli.text.examples import ExampleTable

    table = ExampleTable(examples / split)
    rows = table.groups[1][:count]
    columns = ["group", "prompt", "turns", "prompt_ids", "prompt_cut", "opening", "closing", "templated"]
    return [
        Question(row["group"], row["prompt"], row["turns"], np.array(row["prompt_ids"]), row["prompt_cut"],
                 Around(row["opening"], row["closing"]), row["templated"])
        for row in table.at(rows, columns).to_pylist()
    ]  # fmt: skip


def sampled(generation: Generation, samples: int | None) -> Generation:
    """A decoding with so many samples per prompt; None leaves it as it is. Raises UserError if it gives only one."""
    if samples is None or samples == generation.samples_per_prompt:
        return generation
    if not isinstance(generation, Sample):
        what = f"samples={samples}: generation={name_of(generation)} gives one response per prompt."
        raise UserError(what, "generation=sample, or leave out samples=")
    return replace(generation, samples=samples)


class Speaker:
    """A policy in memory with its tokenizer."""

    def __init__(self, policy: PolicySource, tokenizer: Tokenizer, task: Task, max_tokens: int | None, store: Store) -> None:
        """Build what is missing, and load the model.

        Args:
            policy: the policy.
            tokenizer: its tokenizer.
            task: says how prompts are formatted, and where responses end.
            max_tokens: limit on the tokens of a response; None for the task's.
            store: where artifacts are.
        """
        for needed in dict.fromkeys((policy, *policy.loaded_from(), *upstream(tokenizer), tokenizer)):
            store.ensure(needed, wanted=False)
        self._task, self._job = task, job_in(store)
        self.max_tokens = task.max_response_tokens if max_tokens is None else max_tokens
        self._tell = cache(self._job.log.say)
        self.tokenizer = tokenizer.load(self._job)
        self._model = policy.load(self._job)

    @property
    def uses_template(self) -> bool:
        """Whether chats are rendered by the model's own template."""
        return self._encoder.uses_template

    @cached_property
    def context(self) -> int | None:
        """The most tokens of prompt and response together; None if the model does not say."""
        found: int | None = getattr(self._model.config, "max_position_embeddings", None)
        return found

    @cached_property
    def _encoder(self) -> Encoder:
        """A prompt that somebody types is cut where the model's context ends, and not where training cut."""
        from aloll_cli.text.encoding import Encoder

        room = self._task.max_prompt_tokens if self.context is None else self.context - self.max_tokens - 1
        if room < 1:
            raise self._too_long(1)
        return Encoder(self.tokenizer, room, self.max_tokens, self._task.chat)

    def questions(self, prompts: Sequence[Sequence[Part]], wraps: bool = False) -> list[Question]:
        """Prompts as the model reads them; with ``wraps`` a text becomes a turn of the user, if it has a chat template.

        Raises:
            UserError: the chat template rejects a prompt.
        """
        from aloll_cli.text.wrapping import wrapped

        found = []
        parts = [[vars(part) for part in prompt] for prompt in prompts]
        parts = [list(wrapped(prompt)) for prompt in parts] if wraps and self.uses_template else parts
        for number, (prompt, encoded) in enumerate(zip(parts, self._encoder.prompts(parts), strict=True), start=1):
            if isinstance(encoded, BadRow):
                raise UserError(f"prompt {number}: {encoded}.", "Set task.chat=plain, or change the prompt.")
            found.append(_question(prompt, encoded))
        return found

    def respond(self, questions: Sequence[Question], generation: Generation, stream: str = "0") -> list[Response]:
        """Responses to prompts, as many for each as the decoding says, in the order of the prompts.

        The stream of random numbers is that of ``artifacts.generations.Generations``.
        """
        from aloll_cli.models.generation import respond

        names = [name for question in questions for name in generation.names(question.group)]
        each = [question for question in questions for _ in range(generation.samples_per_prompt)]
        longest = max(len(question.ids) for question in questions)
        if self.context is not None and longest + self.max_tokens + 1 > self.context:
            raise self._too_long(longest)
        runtime = self._job.runtime
        with self._job.log.progress("generate responses", len(each)):
            return respond(
                self._model, self.tokenizer, [question.ids for question in each], names, generation, stream=stream,
                max_tokens=self.max_tokens, stop=self._task.stop, batch_tokens=runtime.scoring_batch_tokens,
                around=[question.around for question in each], advance=self._job.log.advance,
                batching=runtime.generation_batching, tell=self._tell,
            )  # fmt: skip

    def _too_long(self, prompt: int) -> UserError:
        both = f"a prompt of {prompt} tokens and a response of up to {self.max_tokens}"
        return UserError(
            f"the model reads {self.context} tokens at most, and not {both}.",
            f"max_tokens={max(1, (self.context or 0) - prompt - 1)}",
        )


def _question(parts: list[dict[str, Any]], encoded: Any) -> Question:
    import numpy as np

    text = plain_prompt(parts)
    return Question(prompt_key(text), text, turns(parts), np.array(encoded.ids), encoded.cut, encoded.around, encoded.templated)


def scores(scored_by: ScoredBy, rows: Sequence[Row], store: Store) -> FloatArray:
    """(N,) rewards of N responses; builds the fitted state that the reward needs."""
    for state in scored_by.inputs().values():
        for needed in (*upstream(state), state):
            store.ensure(needed, wanted=False)
    job = job_in(store)
    return using(lambda: scored_by.scorer(job), lambda scorer: checked_scores(scored_by.reward, scorer, rows))


def job_in(store: Store) -> Job:
    """For loading: nothing is written."""
    return Job(store.root, store, store.runtime, store.world, store.log, store.stopper)
