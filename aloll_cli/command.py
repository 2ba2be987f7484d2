"""What the user typed, so that a message can say what to type next."""

from __future__ import annotations

import shlex
from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """One command line.

    Attributes:
        stage: its first word after ``aloll``.
        arguments: the rest, as the shell passed them.
    """

    stage: str
    arguments: tuple[str, ...] = ()

    def __str__(self) -> str:
        return shlex.join(["aloll", self.stage, *self.arguments])

    def but(self, stage: str, *without: str) -> Command:
        """The same options for another stage, less some arguments."""
        return Command(stage, tuple(argument for argument in self.arguments if argument not in without))
