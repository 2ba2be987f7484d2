"""Respond to the prompts of a split, or to one's own, and score the responses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aloll_cli.artifacts.examples import Examples
from aloll_cli.artifacts.generations import Generations, load_generations
from aloll_cli.artifacts.pipeline import Pipeline
from aloll_cli.artifacts.policy_source import PolicySource
from aloll_cli.artifacts.rewards import ScoredBy, load_rewards
from aloll_cli.artifacts.speaker import Question, Speaker, questions_of, sampled, scores
from aloll_cli.errors import UserError
from aloll_cli.files import write_new
from aloll_cli.models.decoding import Generation
from aloll_cli.reports.samples import Generated, json_line, show_generated
from aloll_cli.rewards.base import Row
from aloll_cli.runtime.terminal import results
from aloll_cli.schema import name_of
from aloll_cli.settings.recorded import of_its_run
from aloll_cli.settings.root import Settings
from aloll_cli.store.store import Store
from aloll_cli.tasks.base import Part, Task
from aloll_cli.tasks.options import Chat
from aloll_cli.text.typed import asked_in

SHOWN = 8  # prompts of a split
STDOUT = "-"
ROWS = ".jsonl"


def run(settings: Settings, store: Store) -> list[dict[str, Any]] | None:
    """Print responses, or write them as JSON Lines (``to=``) that task=local reads; returns these rows.

    The prompts are those of ``prompt=``, of the file ``prompts=``, or else of a split. A response depends on the policy, the
    prompt, the number of the sample and the decoding alone, and is the one that ``evaluate`` compares.

    Raises:
        UserError: options contradict each other, the file exists already, or a prompt or the policy cannot be read.
    """
    to, line = settings.to, Pipeline(of_its_run(settings))
    if to not in (None, STDOUT):
        _check_place(to)
    if settings.policy == "reference" and settings.side_by_side:
        raise UserError("policy=reference side_by_side=true: both are the reference.", "Leave out one of the two.")
    if settings.score and not settings.reward.scores_text:
        store.log.say(f"no rewards: reward={name_of(settings.reward)} has stored ones only")
    own = _own(settings.prompt, settings.prompts, settings.task)
    asked = _Asked(
        task=settings.task,
        split=settings.split.name,
        own=own,
        first=SHOWN if settings.first is None and to is None and own is None else settings.first,
        generation=sampled(settings.generation, settings.samples),
        wraps=settings.policy not in (None, "reference") and settings.task.chat is Chat.template,
        max_tokens=settings.max_tokens,
        scored_by=line.scored_by if settings.score and settings.reward.scores_text else None,
    )
    sides = {"reference" if settings.policy == "reference" else "policy": line.tried(settings.policy)}
    sides |= {"reference": line.tried("reference")} if settings.side_by_side else {}
    found = [asked.responses(side, *of, store) for side, of in sides.items()]
    if not store.world.is_main:
        return None
    # of each prompt the samples of one side, then those of the other
    count = asked.generation.samples_per_prompt
    every = [one for at in range(0, len(found[0]), count) for of_side in found for one in of_side[at : at + count]]
    rows = [one.row(beside=len(sides) > 1) for one in every]
    if to is None:
        show_generated(every, settings.reward.label)
    elif to == STDOUT:
        results.file.writelines(map(json_line, rows))
    else:
        _write(to, rows)
        store.log.say(f"wrote     {to}: {len(rows):,} rows; to train on them: task=local task.path={to}")
    if cut := sum(not one.ended for one in every):
        store.log.say(f"{cut:,} of {len(every):,} responses were cut at the limit; max_tokens= sets another one")
    return rows


@dataclass(frozen=True)
class _Asked:
    """What is asked of each side.

    Attributes:
        task: says how prompts are formatted, and where responses end.
        split: the split of the prompts.
        own: the user's own prompts instead; None for those of the split.
        first: how many of them; None for all.
        generation: the decoding.
        wraps: whether the user's texts become turns of the user: for a model that may have been trained on anything.
        max_tokens: limit on the tokens of a response; None for the task's.
        scored_by: the reward; None to leave it out.
    """

    task: Task
    split: str
    own: list[Sequence[Part]] | None
    first: int | None
    generation: Generation
    wraps: bool
    max_tokens: int | None
    scored_by: ScoredBy | None

    def responses(self, side: str, policy: PolicySource, examples: Examples, store: Store) -> list[Generated]:
        """The responses of one side; to all prompts of a split they are artifacts."""
        if self.own is None and self.first is None and self.max_tokens is None:
            asked = Generations(policy, examples, self.split, self.generation, self.generation.servers, stream=self._stream)
            return self._of_split(side, asked, store)
        if self.generation.servers:
            store.log.say("  generated in this process: generation.server is for all prompts of a split")
        speaker = Speaker(policy, examples.tokenizer, self.task, self.max_tokens, store)
        if self.own is None:
            questions = questions_of(store.ensure(examples, wanted=False), self.split, self.first)
        else:
            questions = speaker.questions(self.own[: self.first], self.wraps)
            _say_how_read(speaker, questions, store)
        each = [question for question in questions for _ in range(self.generation.samples_per_prompt)]
        responses = speaker.respond(questions, self.generation, self._stream)
        rows = [
            Row.of(self.task, q.group, q.group, q.prompt, r.text, turns=q.turns) for q, r in zip(each, responses, strict=True)
        ]
        rewards = scores(self.scored_by, rows, store).tolist() if self.scored_by else [None] * len(rows)
        return [
            Generated(side, question.prompt, question.turns, response.text, response.ended, reward)
            for question, response, reward in zip(each, responses, rewards, strict=True)
        ]

    @property
    def _stream(self) -> str:
        """Of training prompts with random numbers of their own, as rows to train on: V(x) may be estimated from other samples."""
        return "rows" if self.own is None and self.split == "train" else "0"

    def _of_split(self, side: str, generations: Generations, store: Store) -> list[Generated]:
        table = load_generations(store.ensure(generations)).select(["prompt", "turns", "response", "ended"]).to_pylist()
        rewards: list[float | None] = [None] * len(table)
        if self.scored_by:
            rewards = load_rewards(store.ensure(self.scored_by.rewards(generations, "responses"))).tolist()
        return [Generated(side=side, reward=reward, **row) for row, reward in zip(table, rewards, strict=True)]


def _own(prompt: Any, prompts: str | None, task: Task) -> list[Sequence[Part]] | None:
    """The prompts that the user types or names; None for those of the split."""
    if prompt is not None and prompts is not None:
        raise UserError("prompt= and prompts= are both set.", "prompt='a text', or prompts=FILE")
    if prompts is not None:
        return asked_in(prompts, task)
    if prompt is None:
        return None
    texts = [str(text) for text in (prompt if isinstance(prompt, list) else [prompt])]
    if not texts or not all(text.strip() for text in texts):
        raise UserError("prompt= is empty.", "prompt='a text'")
    return [task.asked(text) for text in texts]


def _say_how_read(speaker: Speaker, questions: list[Question], store: Store) -> None:
    """What a user should know about how the model reads the prompts."""
    if all(question.templated for question in questions):
        store.log.say("the model's chat template is used; task.chat=plain turns it off")
    elif speaker.tokenizer.chat_template is not None:
        store.log.say("the model's chat template is not used, as the prompts have no turns: task.chat=wrap makes each a turn")
    if cut := sum(question.cut > 0 for question in questions):
        store.log.warn(f"{cut:,} of {len(questions):,} prompts were cut to fit the model's context")


def _check_place(to: str) -> None:
    """Raises UserError where rows cannot be written, which would be found too late otherwise."""
    file = Path(to).expanduser()
    if file.suffix != ROWS:
        what = f"to={to}: the rows are JSON Lines, which task=local reads from files that end in {ROWS}."
        raise UserError(what, f"to={to}{ROWS}, or to=- for stdout")
    if file.exists():
        raise UserError(f"to={to} exists, and is not overwritten.", _another(to))
    if not file.parent.is_dir():
        raise UserError(f"to={to}: there is no folder {file.parent}.", f"mkdir -p {file.parent}")


def _another(to: str) -> str:
    return f"Name a new file: to={to.removesuffix(ROWS)}-2{ROWS}"


def _write(to: str, rows: list[dict[str, Any]]) -> None:
    """A file that was not there before; it is there as a whole or not at all."""
    try:
        write_new(Path(to).expanduser(), "".join(map(json_line, rows)))
    except FileExistsError:
        raise UserError(f"to={to} exists by now, and is not overwritten.", _another(to)) from None
