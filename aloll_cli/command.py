"""The command line as typed, from which messages build the command to type next."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

KEY = re.compile(r"[+~]*(?:\w+@)?(?P<key>\w+)[\w.]*=")


@dataclass(frozen=True)
class Command:
    """One command line.

    Attributes:
        stage: the first word after ``aloll``.
        arguments: the other arguments, as the shell passed them.
        reads: by stage, the options and groups that it reads; a stage that is missing reads all.
    """

    stage: str
    arguments: tuple[str, ...] = ()
    reads: Mapping[str, Collection[str]] = field(default_factory=dict)

    def __str__(self) -> str:
        return shlex.join(["aloll", self.stage, *self.arguments])

    def but(self, stage: str, *without: str) -> Command:
        """The command line of a stage with the same flags, and with the options of this one that it reads, but for some."""
        read = self.reads.get(stage)

        def stays(argument: str) -> bool:
            found = KEY.match(argument)
            return found is None or (found["key"] not in without and (read is None or found["key"] in read))

        return Command(stage, tuple(filter(stays, self.arguments)), self.reads)
