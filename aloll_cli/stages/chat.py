"""Talk to a policy in the terminal."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from aloll_cli.artifacts.pipeline import Pipeline
from aloll_cli.artifacts.speaker import Speaker, sampled
from aloll_cli.errors import UserError
from aloll_cli.models.decoding import Generation
from aloll_cli.reports.printing import prose, say
from aloll_cli.runtime.terminal import notes, results
from aloll_cli.schema import name_of
from aloll_cli.settings.recorded import of_its_run
from aloll_cli.settings.root import Settings
from aloll_cli.stopping import Interrupted, handled_as, handled_by
from aloll_cli.store.store import Store
from aloll_cli.tasks.base import Task, Turn
from aloll_cli.text.typed import conversation
from aloll_cli.visible import visible

ASKED = "> "
COMMANDS = "/reset begins a new chat, /quit or Ctrl-D ends; Ctrl-C stops a response"


class Cut(Exception):
    """Ctrl-C."""


def run(settings: Settings, store: Store) -> None:
    """Reply to each line of stdin, until it ends or says /quit; with ``side_by_side=true`` the reference replies, too.

    A chat goes on with the policy's responses. The same chat gets the same responses.

    Raises:
        UserError: neither the model nor the task has a format for chats.
    """
    if store.world.size > 1:
        raise UserError("chat runs in one process.", "processes=1")
    line, task = Pipeline(of_its_run(settings)), settings.task
    generation = sampled(settings.generation, 1)
    sides = {"policy": line.tried(settings.policy)}
    if settings.side_by_side and settings.policy != "reference":
        sides["reference"] = (line.reference, line.examples)
    speakers = {
        side: Speaker(policy, examples.tokenizer, task, settings.max_tokens, store) for side, (policy, examples) in sides.items()
    }
    for side, speaker in speakers.items():
        _check(side, speaker, task)
    store.log.say(COMMANDS)
    turns: list[Turn] = []
    while (text := _read()) is not None:
        if text == "/reset":
            turns.clear()
        elif text.startswith("/"):
            notes.print(COMMANDS, markup=False)
        elif text.strip():
            asked = [*turns, Turn(role="user", content=text)]
            for side, speaker in speakers.items():
                response = _response(speaker, asked, task, generation)
                if response is None:
                    break
                if side == "policy":
                    turns = [*asked, Turn(role="assistant", content=response.strip())]
                if len(speakers) > 1:
                    say(f"{side}:")
                results.print(prose(visible(response.strip()) or "(empty)"), soft_wrap=False)


def _check(side: str, speaker: Speaker, task: Task) -> None:
    """Raises UserError where nothing says how turns are written."""
    if not speaker.uses_template and task.conversation([Turn(role="user", content="Hi")]) is None:
        what = f"the tokenizer of the {side} has no chat template, and prompts of task={name_of(task)} are no chats."
        raise UserError(what, "To continue a text: aloll generate prompt='a text'. To talk to a chat model: policy=FOLDER")


def _read() -> str | None:
    """The next line, or None at the end: also for /quit and Ctrl-C."""
    is_terminal = sys.stdin.isatty()
    if is_terminal:
        with suppress(ImportError):
            import readline  # noqa: F401  gives input() its keys
    with suppress(EOFError, Cut), _cutting():
        text = input(ASKED if is_terminal else "")
        return None if text == "/quit" else text
    return None


def _response(speaker: Speaker, asked: list[Turn], task: Task, generation: Generation) -> str | None:
    """The response to a chat; None if Ctrl-C stopped it."""
    (question,) = speaker.questions([conversation(asked, task)])
    if question.cut:
        notes.print(f"(the beginning of the chat, {question.cut} tokens, does not fit into the model any more)", markup=False)
    try:
        with _cutting():
            return speaker.respond([question], generation)[0].text
    except Cut:
        notes.print("(stopped)", markup=False)
        return None


@contextmanager
def _cutting() -> Iterator[None]:
    """Within this context Ctrl-C raises Cut, and does not end the command; other signals end it at once, for nothing is lost."""

    def cut(number: int, frame: FrameType | None) -> None:
        raise Cut if number == signal.SIGINT else Interrupted.by(number)

    previous = handled_by(cut)
    try:
        yield
    finally:
        handled_as(previous)
