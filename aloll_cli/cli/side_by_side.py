"""Jobs of a sweep side by side on this machine: joblib says how many, and each is a process of its own.

A process that is killed ends one job, signals reach each once, and a job has the GPU it is given; joblib's own processes are
shared by jobs, and what they are told is pickled.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from queue import SimpleQueue
from signal import Signals
from threading import Lock, Thread

from aloll_cli.cli.queued import LOG, RESULTS, Order
from aloll_cli.cli.watching import Phase, Queue, Status
from aloll_cli.errors import UserError
from aloll_cli.files import of_the_system
from aloll_cli.runtime.terminal import notes
from aloll_cli.settings.launchers import Joblib
from aloll_cli.stopping import STARTED, Interrupted
from aloll_cli.watchdog import PARENT


class SideBySide(Queue):
    """Processes of this machine, some at a time."""

    grace = 0.0

    def __init__(self, orders: Sequence[Order], options: Joblib) -> None:
        """Start them; returns at once."""
        from joblib import Parallel, delayed, effective_n_jobs

        self._orders = orders
        self._at_a_time = min(effective_n_jobs(options.n_jobs), len(orders))
        self._statuses = [Status(Phase.waiting)] * len(orders)
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._received: list[int] = []
        self._lock = Lock()  # no job is started after a signal
        self._gpus = SimpleQueue[int]()
        for number in options.gpus:
            self._gpus.put(number)
        self._shares = bool(options.gpus)
        parallel = Parallel(n_jobs=options.n_jobs, backend="threading", batch_size=1)  # its threads wait for our processes
        tasks = [delayed(self._run)(place) for place in range(len(orders))]
        Thread(target=parallel, args=(tasks,), daemon=True).start()

    def look(self) -> Sequence[Status]:
        return list(self._statuses)

    def react(self, received: Sequence[int]) -> None:
        with self._lock:
            new = received[len(self._received) :]
            if new and not self._received:
                notes.print("stopping the jobs at their next safe points; a second Ctrl-C or signal stops them immediately")
            self._received += new
        for number in new:
            for process in list(self._processes.values()):
                process.send_signal(number)
        if self._received and Phase.running not in {status.phase for status in self._statuses}:
            raise Interrupted.by(self._received[0])

    def lost(self, status: Status) -> UserError:
        return UserError(f"{status.detail}; finished work and checkpoints are kept.", "Repeat the command, which continues.")

    def _run(self, place: int) -> None:
        """One job from its start to its end, in a thread of joblib's."""
        gpu = self._gpus.get() if self._shares else None
        with self._lock:
            if self._received:
                return
            self._statuses[place] = Status(Phase.running, "" if gpu is None else f"GPU {gpu}")
        ended = "the job could not be started"
        try:
            ended = self._finished(place, gpu)
        except OSError as error:
            ended = f"{ended}: {of_the_system(error).args[0]}"
        finally:
            self._statuses[place] = Status(Phase.gone, ended)
            if gpu is not None:
                self._gpus.put(gpu)

    def _finished(self, place: int, gpu: int | None) -> str:
        """How a job ended, once it has."""
        order = self._orders[place]
        hours, processes = order.settings.max_hours, order.settings.processes
        left = None if hours is None else STARTED + 3600 * hours - time.monotonic()  # they are those of the whole sweep
        if left is not None and left <= 0:
            order.skip("max_hours reached")
            return "max_hours"
        replace(order, threads=max(1, (os.cpu_count() or 1) // (self._at_a_time * processes)), seconds=left).write()
        process = self._processes[place] = self._start(order, gpu)
        for number in self._received:  # while it was started
            process.send_signal(number)
        code = process.wait()
        del self._processes[place]
        return f"the job was ended by {Signals(-code).name}" if code < 0 else f"the job ended with exit code {code}"

    def _start(self, order: Order, gpu: int | None) -> subprocess.Popen[bytes]:
        environment = os.environ | {PARENT: str(os.getpid())}
        if gpu is not None:
            environment["CUDA_VISIBLE_DEVICES"] = str(gpu)
        # -P: modules come from where Python has them, not from the current folder
        # a session of its own: Ctrl-C reaches it once, through this process
        words = [sys.executable, "-P", "-m", "aloll_cli.cli.queued", str(order.folder)]
        with (order.folder / RESULTS).open("wb") as out, (order.folder / LOG).open("ab") as log:
            return subprocess.Popen(words, env=environment, stdout=out, stderr=log, start_new_session=True)
