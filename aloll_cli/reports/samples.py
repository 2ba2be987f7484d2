"""Generated responses: for people on the terminal, and as rows that task=local reads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean
from typing import TYPE_CHECKING, Any

from rich.table import Table

from aloll_cli.reports.printing import line, prose, say
from aloll_cli.reports.text import ending, number
from aloll_cli.runtime.terminal import results
from aloll_cli.visible import HIDDEN, visible

if TYPE_CHECKING:
    from aloll_cli.tasks.base import Turn

PROMPT_SHOWN = 400  # characters


@dataclass(frozen=True)
class Generated:
    """A response to a prompt.

    Attributes:
        side: policy or reference.
        prompt: as plain text.
        turns: as chat turns; a chat ends with the turn that the response is.
        response: its text.
        ended: whether it was finished, rather than cut at the limit.
        reward: None if it was not scored.
    """

    side: str
    prompt: str
    turns: Sequence[Turn]
    response: str
    ended: bool
    reward: float | None

    @property
    def chat(self) -> list[Turn]:
        """The turns before the response; none of a text, and of a last turn that has begun."""
        is_chat = bool(self.turns) and self.turns[-1]["role"] == "assistant" and not self.turns[-1]["content"]
        return list(self.turns[:-1]) if is_chat else []

    @property
    def shown(self) -> str:
        """The prompt as people see it: of a single turn what it says."""
        return self.chat[0]["content"] if len(self.chat) == 1 else self.prompt

    def row(self, beside: bool) -> dict[str, Any]:
        """As a row of task=local; ``beside``: with the side that responds."""
        prompt: dict[str, Any] = {"messages": self.chat} if self.chat else {"prompt": self.prompt}
        reward = {} if self.reward is None else {"reward": self.reward}
        return prompt | {"response": self.response} | reward | {"ended": self.ended} | ({"side": self.side} if beside else {})


def json_line(row: dict[str, Any]) -> str:
    """A row as a line of JSON; characters that would move a terminal's cursor are escaped."""
    text = json.dumps(row, ensure_ascii=False)
    return HIDDEN.sub(lambda found: f"\\u{ord(found.group()):04x}", text) + "\n"


def show_generated(found: Sequence[Generated], reward: str) -> None:
    """Print prompts and responses, and the mean reward of each side.

    Args:
        found: the responses; those to a prompt one after another.
        reward: its name.
    """
    for prompt, responses in groupby(found, key=lambda one: one.shown):
        say("")
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_row(line("prompt"), line(""), prose(ending(visible(prompt.strip()), PROMPT_SHOWN)), style="dim")
        for one in responses:
            scored = line("" if one.reward is None else number(one.reward))
            grid.add_row(line(one.side), scored, prose((visible(one.response.strip()) or "(empty)") + " …" * (not one.ended)))
        results.print(grid, soft_wrap=False)
    rewards = {side: [one.reward for one in found if one.side == side and one.reward is not None] for side in _sides(found)}
    if all(rewards.values()):
        means = ", ".join(f"{side} {number(fmean(of_side))}" for side, of_side in rewards.items())
        say(f"\nmean reward ({reward}) of {len(found) // len(rewards):,} responses: {means}")


def _sides(found: Sequence[Generated]) -> list[str]:
    return list(dict.fromkeys(one.side for one in found))
