"""The processes that run one command together.

With one process nothing is imported, so that a command that finds everything cached never imports torch.
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
from aloll_cli.runtime import rendezvous
from aloll_cli.runtime.device import uses_gpu
from aloll_cli.stopping import Interrupted, Stopper
from aloll_cli.user_code import plugin_errors

if TYPE_CHECKING:
    import torch


class World(ABC):
    """The number of processes, and the rank of this one."""

    rank: int
    size: int

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    @property
    def device(self) -> torch.device:
        """The device of this process."""
        import torch

        return torch.device("cuda", torch.cuda.current_device()) if uses_gpu() else torch.device("cpu")

    @abstractmethod
    def wait(self) -> None:
        """Barrier: return when every process has called this."""

    @abstractmethod
    def decide(self, question: Callable[[], bool]) -> bool:
        """The main process's result, in every process. An exception in the main process ends all of them."""

    @abstractmethod
    def gather(self, value: Any) -> list[Any]:
        """All-gather: every process's value, by rank. Values must be JSON-serializable; tuples become lists."""

    def agree(self, error: UserError | None) -> None:
        """Barrier that raises, in every process, the first error of any of them."""
        first = next((found for found in self.gather(None if error is None else error.args) if found is not None), None)
        if first is not None:
            raise error or UserError(*first)

    def on_main(self, action: Callable[[], None]) -> None:
        """Run an action in the main process while the others wait; a UserError of it is raised in every process."""
        error = None
        if self.is_main:
            try:
                with plugin_errors():
                    action()
            except UserError as found:
                error = found
        self.agree(error)

    def stopped(self, stopper: Stopper) -> Interrupted | None:
        """Why any process was asked to stop, the same in all of them; None if none was. Every process must call this."""
        own = stopper.interruption().args if stopper.requested else None
        found = next((args for args in self.gather(own) if args is not None), None)
        return None if found is None else Interrupted(*found)

    def share(self, count: int, together: int = 1) -> list[int]:
        """This process's share of so many rows, of which so many consecutive ones stay in one process, as samples of a prompt."""
        return [row for row in range(count) if row // together % self.size == self.rank]

    def sum(self, value: float) -> float:
        """All-reduce: the sum over processes."""
        return float(sum(self.gather(value)))


class Alone(World):
    """A single process."""

    rank, size = 0, 1

    def wait(self) -> None:
        pass

    def decide(self, question: Callable[[], bool]) -> bool:
        return question()

    def gather(self, value: Any) -> list[Any]:
        return [value]


class Distributed(World):
    """Several processes, connected by accelerate."""

    def __init__(self) -> None:
        from accelerate import PartialState

        # one process may wait for another command's lock, or build something alone, for longer than torch's default timeout
        timeout = timedelta(days=7)
        if (met := rendezvous.current()) is not None:
            _join(met, timeout)
        self._state = PartialState(cpu=not uses_gpu(), timeout=timeout)
        self.rank, self.size = self._state.process_index, self._state.num_processes

    def wait(self) -> None:
        self._state.wait_for_everyone()

    def decide(self, question: Callable[[], bool]) -> bool:
        return bool(self.gather(question() if self.is_main else None)[0])

    def gather(self, value: Any) -> list[Any]:
        import torch
        from accelerate.utils import gather, pad_across_processes

        # as bytes of JSON, because accelerate's gather_object would pickle
        mine = torch.tensor(list(json.dumps(value).encode()), dtype=torch.uint8, device=self._state.device)
        rows = gather(pad_across_processes(mine, pad_index=ord(" "))[None])
        return [json.loads(bytes(row)) for row in rows.tolist()]  # type: ignore[attr-defined]


def _join(met: rendezvous.Rendezvous, timeout: timedelta) -> None:
    """Make the process group of processes that have met; accelerate takes the one that it finds."""
    import torch
    from torch import distributed
    from torch.distributed import PrefixStore  # type: ignore[attr-defined]

    if distributed.is_initialized():  # by an earlier job of a sweep
        return
    if uses_gpu():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    backend, store = "nccl" if uses_gpu() else "gloo", PrefixStore("group", met.store)
    distributed.init_process_group(backend, store=store, rank=rendezvous.rank(), world_size=rendezvous.size(), timeout=timeout)


def current_world() -> World:
    """The world that the launcher's environment variables describe."""
    return Distributed() if int(os.environ.get("WORLD_SIZE", "1")) > 1 else Alone()


def part() -> None:
    """Shut down the process group; otherwise torch's threads would outlive the process and end it with a warning."""
    if "torch" in sys.modules:
        from torch import distributed

        if distributed.is_available() and distributed.is_initialized():
            distributed.destroy_process_group()
