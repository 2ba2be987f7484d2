"""The command line as typed, from which messages build the command to type next."""

from __future__ import annotations

import shlex
from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """One command line.

    Attributes:
        stage: the first word after ``aloll``.
        arguments: the other arguments, as the shell passed them.
    """

    stage: str
    arguments: tuple[str, ...] = ()

    def __str__(self) -> str:
        return shlex.join(["aloll", self.stage, *self.arguments])

    def but(self, stage: str, *without: str) -> Command:
        """The same arguments for another stage, without some of them."""
        return Command(stage, tuple(argument for argument in self.arguments if argument not in without))
