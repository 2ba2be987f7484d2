"""Several processes on one machine for one command.

Each worker reads the configuration from the parent's memory and joins the others through accelerate; several machines are
the business of ``torchrun`` or a cluster's launcher, which set the same environment variables.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aloll_cli.command import Command
from aloll_cli.errors import UserError
from aloll_cli.settings.plugins import settings_as_text
from aloll_cli.stopping import SIGNALS, TIME_IS_UP, Interrupted, noted
from aloll_cli.watchdog import PARENT, patient

POLL = 0.1  # seconds
GRACE = 15.0  # seconds, to write a checkpoint or to tidy up
SPEAKING = (2, TIME_IS_UP, *(128 + number for number in SIGNALS))  # exit codes of workers that ended in order


class WorkersFailed(Exception):
    """A worker ended with an exit code of its own and has said why."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def run_workers(command: Command, settings: Any) -> None:
    """Run a stage in ``settings.processes`` workers and wait for them.

    Raises:
        UserError: one of them was killed.
        Interrupted: they stopped in order after a signal or at ``max_hours``.
        WorkersFailed: one of them failed; the others were stopped.
    """
    workers: list[subprocess.Popen[bytes]] = []
    with noted() as received:
        try:
            with _handed_over(settings) as descriptors:
                port = _free_port()
                for rank in range(settings.processes):
                    workers.append(_start(rank, command, descriptors, settings, port))
            with patient():  # the workers have watchdogs of their own
                code = _wait(workers, received)
        finally:
            for worker in workers:
                worker.kill()
    if code == TIME_IS_UP:
        raise Interrupted(0, "max_hours reached")
    if received and code in (0, 128 + received[0], -received[0], -signal.SIGKILL):  # the last by its watchdog
        raise Interrupted.by(received[0])
    if code < 0:
        raise _killed(-code, workers, command)
    if code:
        raise WorkersFailed(code)


def _killed(number: int, workers: list[subprocess.Popen[bytes]], command: Command) -> UserError:
    """What to say of a worker that ended by a signal."""
    rank = next(rank for rank, worker in enumerate(workers) if worker.returncode == -number)
    name = signal.Signals(number).name
    lower = "lower micro_batch_size or scoring_batch_tokens, set gradient_checkpointing=true, or use fewer processes"
    hint = {
        "SIGKILL": f"Most likely memory ran out: {lower}.",
        "SIGTERM": "Somebody ended it.",
    }.get(name, "A library crashed.")
    what = f"process {rank} of {len(workers)} was ended by {name}; finished work and checkpoints are kept."
    return UserError(what, f"{hint} Continue with: {command}")


@contextmanager
def _handed_over(settings: Any) -> Iterator[tuple[int, int]]:
    """What workers inherit: a file in memory with the settings, and a pipe with one byte, which whoever speaks first takes.

    Nothing of it is on disk, so nothing stays when this process is killed: settings may hold secrets from the environment.
    """
    file, (turn, giving) = os.memfd_create("aloll-settings"), os.pipe()
    try:
        with open(file, "w", encoding="utf-8", closefd=False) as stream:
            stream.write(settings_as_text(settings))
        os.write(giving, b"1")
        os.close(giving)  # who comes later finds the end of the pipe and does not wait
        yield file, turn
    finally:
        os.close(file)
        os.close(turn)


def _start(rank: int, command: Command, inherited: tuple[int, int], settings: Any, port: int) -> subprocess.Popen[bytes]:
    from aloll_cli.runtime.terminal import results

    count = settings.processes
    threads = settings.threads or os.environ.get("OMP_NUM_THREADS") or max(1, (os.cpu_count() or 1) // count)
    joined = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, PARENT: os.getpid()}
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": threads, "RAYON_NUM_THREADS": threads}
    environment = os.environ | {name: str(value) for name, value in (joined | meeting).items()}
    # -P: modules come from where Python has them, not from the current folder
    # a session of its own: Ctrl-C reaches a worker once, through the parent
    words = [sys.executable, "-P", "-m", "aloll_cli.cli.worker", *map(str, inherited), command.stage, *command.arguments]
    stdout = subprocess.DEVNULL if results.quiet else None
    return subprocess.Popen(words, env=environment, start_new_session=True, stdout=stdout, pass_fds=inherited)


def _wait(workers: list[subprocess.Popen[bytes]], received: list[int]) -> int:
    """The exit code that says why they ended, or 0; when a worker fails, the others have a while to end for the same reason.

    Signals that this process receives meanwhile, or received while workers were started, are passed on to all of them.
    """
    first, deadline, passed = 0, float("inf"), 0
    own: list[int] = []  # exit codes of those that ended by themselves
    ended: list[int | None]
    while None in (ended := [worker.poll() for worker in workers]):
        while passed < len(received):
            for worker in workers:
                worker.send_signal(received[passed])
            passed += 1
        own = [code for code in ended if code]
        if own and not first:
            first, deadline = own[0], time.monotonic() + GRACE
        if time.monotonic() > deadline:
            for worker in workers:
                worker.kill()
                worker.wait()
            break
        time.sleep(POLL)
    else:
        own = [code for code in ended if code]
    # one that says why, or was killed, rather than one that only lost the others
    speaking = (code for code in own if code in SPEAKING)
    return next(speaking, next((code for code in own if code < 0), first or next(iter(own), 0)))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
