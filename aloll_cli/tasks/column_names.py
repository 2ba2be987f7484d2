"""The names of the columns of task=local, and what to type where a row has others."""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from aloll_cli.errors import UserError

LIKELY = {  # names that people give to such columns, the likeliest first
    "prompt": ("prompt", "question", "instruction", "query", "input", "source", "context", "user", "title"),
    "response": ("response", "answer", "output", "completion", "reply", "target", "generation", "assistant", "summary"),
    "reward": ("reward", "score", "rating", "label", "grade", "stars", "preference"),
}
READ = "prompt and response, messages, conversations, chosen and rejected, prompt and completion, instruction and output"


@dataclass(kw_only=True)
class Columns:
    """The names of the columns."""

    prompt: str
    messages: str
    response: str
    reward: Any  # one name, or a list of several
    split: str | None

    def __post_init__(self) -> None:
        if not self.rewards or not all(isinstance(name, str) for name in self.rewards):
            raise UserError(
                "task.columns.reward: expected the name of a column, or a list of names.", "task.columns.reward=score"
            )
        if twice := next((name for name in self.named if self.named.count(name) > 1), None):
            raise UserError(f"task.columns uses the column {twice} twice.", "Name each column once.")

    @property
    def named(self) -> list[str]:
        """All column names that are read."""
        return [self.prompt, self.messages, self.response, *self.rewards, *([self.split] if self.split else [])]

    @property
    def rewards(self) -> list[Any]:
        """The names of the reward columns."""
        return self.reward if isinstance(self.reward, list) else [self.reward]

    def likely(self, row: dict[str, Any], meaning: str, name: str | None = None) -> str | None:
        """The column of a row that probably has a meaning, of those that are not read; None if none is likely.

        Args:
            row: the row.
            meaning: prompt, messages, response, reward or split.
            name: what the column should be called.
        """
        free = [column for column in row if column not in self.named]
        if meaning == "messages":
            return next((column for column in free if _are_turns(row[column])), None)
        if close := difflib.get_close_matches(name or meaning, free, n=1):
            return close[0]
        plain = {column.strip().lower().removesuffix("s"): column for column in reversed(free)}
        known = (plain[of.removesuffix("s")] for of in LIKELY.get(meaning, ()) if of.removesuffix("s") in plain)
        return next(known, free[0] if len(free) == 1 else None)

    def override(self, row: dict[str, Any], meaning: str, name: str | None = None) -> str:
        """What names the likely column of a meaning on the command line."""
        likely = self.likely(row, meaning, name)
        return f"task.columns.{meaning}={'COLUMN' if likely is None else quoted(likely)}"

    def where(self, row: dict[str, Any], name: str, meaning: str) -> str:
        """What to type where a row lacks a column: its likely name, and those of others that are missing, too."""
        if meaning == "response" and isinstance(row.get(self.messages), list):
            return f'Add the response as the last assistant turn, or as the column "{name}"'
        if len(row) == 1 and (sign := next((sign for sign in ";\t|" if sign in next(iter(row))), None)):
            return f"Separate columns by commas, not by {sign!r}"
        if all(isinstance(value, list) and value and isinstance(value[0], dict) for value in row.values()):
            return f"If the rows are the list in {' or '.join(map(quoted, row))}, write only that list to a file of its own"
        if meaning == "response" and (chat := self.likely(row, "messages")) is not None:
            return f"Name the turns: task.columns.messages={quoted(chat)}"
        if meaning != "response" or self.prompt in row:
            unknown = meaning in ("prompt", "response") and self.likely(row, meaning, name) is None
            return f"Name it: {self.override(row, meaning, name)}" + (f" (columns that are read: {READ})" if unknown else "")
        if row.get("instruction") is not None and self.likely(row, "response") not in (None, "instruction"):
            return f"Name it: {self.override(row, 'response')}"  # the prompt is the instruction with its input
        found = {of: self.likely(row, of) for of in ("prompt", "response")}
        if None in found.values() or found["prompt"] == found["response"]:
            return f"Name them: task.columns.prompt=COLUMN task.columns.response=COLUMN (columns that are read: {READ})"
        more = ["reward"] if self.rewards == ["reward"] and "reward" not in row and self.likely(row, "reward") else []
        return "Name them: " + " ".join(self.override(row, of) for of in (*found, *more))


STANDARD = Columns(prompt="prompt", messages="messages", response="response", reward="reward", split=None)


def _are_turns(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, dict) and {"role", "from"} & v.keys() for v in value)


def listed(columns: Iterable[Any]) -> str:
    """The names of columns for people, at most 200 characters."""
    names = (
        "".join(c if c.isprintable() else repr(c)[1:-1] for c in ", ".join(str(column) or '""' for column in columns)) or "none"
    )
    return names if len(names) <= 200 else names[:199] + "…"


def quoted(column: str) -> str:
    """A column's name, quoted for an override in a shell."""
    return column if re.fullmatch(r"[\w.-]+", column) else shlex.quote('"' + column.replace('"', '\\"') + '"')
