"""The processes that work on one command together.

A world of one needs nothing, so that a command that finds everything made never imports torch.
"""

from __future__ import annotations

import json
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from aloll_cli.errors import UserError

if TYPE_CHECKING:
    import torch


class World(ABC):
    """How many processes there are, and which one this is."""

    rank: int
    size: int

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        import torch

        return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")

    @abstractmethod
    def wait(self) -> None:
        """Return when every process is here."""

    @abstractmethod
    def decide(self, question: Callable[[], bool]) -> bool:
        """The main process's answer, in every process. An exception of the main process's ends them all."""

    @abstractmethod
    def gather(self, value: Any) -> list[Any]:
        """Every process's value, by rank, in every process; what JSON can hold, tuples as lists."""

    def agree(self, error: UserError | None) -> None:
        """Raise, in every process, the first error that any of them met; wait for everyone otherwise."""
        first = next((found for found in self.gather(None if error is None else error.args) if found is not None), None)
        if first is not None:
            raise error or UserError(*first)

    def on_main(self, action: Callable[[], None]) -> None:
        """Let the main process do something that the others wait for; a UserError of it is raised in every process."""
        error = None
        if self.is_main:
            try:
                action()
            except UserError as found:
                error = found
        self.agree(error)

    def sum(self, value: float) -> float:
        """The sum over processes, in every process."""
        return float(sum(self.gather(value)))


class Alone(World):
    """One process."""

    rank, size = 0, 1

    def wait(self) -> None:
        pass

    def decide(self, question: Callable[[], bool]) -> bool:
        return question()

    def gather(self, value: Any) -> list[Any]:
        return [value]


class Together(World):
    """Several processes, joined through accelerate."""

    def __init__(self) -> None:
        from accelerate import PartialState

        # one process may wait for another command's lock, or make something alone, for longer than torch's default limit
        self._state = PartialState(cpu=not _has_gpu(), timeout=timedelta(days=7))
        self.rank, self.size = self._state.process_index, self._state.num_processes

    def wait(self) -> None:
        self._state.wait_for_everyone()

    def decide(self, question: Callable[[], bool]) -> bool:
        return bool(self.gather(question() if self.is_main else None)[0])

    def gather(self, value: Any) -> list[Any]:
        import torch
        from accelerate.utils import gather, pad_across_processes

        # as bytes of JSON: accelerate's own gathering of objects would pickle them
        mine = torch.tensor(list(json.dumps(value).encode()), dtype=torch.uint8, device=self._state.device)
        rows = gather(pad_across_processes(mine, pad_index=ord(" "))[None])
        return [json.loads(bytes(row)) for row in rows.tolist()]  # type: ignore[attr-defined]


def current_world() -> World:
    """The world that the launcher's environment describes."""
    return Together() if int(os.environ.get("WORLD_SIZE", "1")) > 1 else Alone()


def part() -> None:
    """Leave the others in order: torch's threads would otherwise outlive the process and end it with a complaint."""
    if "torch" in sys.modules:
        from torch import distributed

        if distributed.is_available() and distributed.is_initialized():
            distributed.destroy_process_group()


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()
