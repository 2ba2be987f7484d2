"""Jobs of a sweep in the queue of a SLURM cluster: submitit makes the array, squeue says how it stands.

submitit's own way of waiting asks sacct, which many clusters do not have, and reads pickles; its own way of requeuing leaves a
training step in the middle. So a job's outcome is read from its folder (queued.py), and a job stops by ``max_hours``.
"""

from __future__ import annotations

import io
import logging
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from signal import SIGINT
from threading import Thread
from typing import Any

from aloll_cli.cli.queued import Order, run_job
from aloll_cli.cli.watching import Phase, Queue, Status
from aloll_cli.errors import UserError
from aloll_cli.runtime.terminal import notes
from aloll_cli.settings.launchers import SubmititSlurm
from aloll_cli.stopping import Interrupted

OFTEN, SELDOM = 2.0, 15.0  # seconds between two questions to squeue: for a sweep that has just begun, and for a long one
SILENCE = 60.0  # seconds of silence of SLURM after which that is said
SECOND = 10.0  # seconds within which a second Ctrl-C cancels the jobs
ENDED = {  # how SLURM says that a job has ended, and what to do about it; it may have ended in order with any of them
    "BOOT_FAIL": "The machine did not start.",
    "CANCELLED": "Somebody cancelled it.",
    "COMPLETED": "It wrote no outcome: is output_dir on a file system that all machines share?",
    "DEADLINE": "Its deadline was before its end.",
    "FAILED": "Its log says more.",
    "NODE_FAIL": "The machine failed.",
    "OUT_OF_MEMORY": "Raise hydra.launcher.mem_gb, or lower micro_batch_size or scoring_batch_tokens.",
    "PREEMPTED": "The cluster ends jobs that others take the place of, and does not requeue them.",
    "REVOKED": "Another cluster has taken it.",
    "TIMEOUT": "It took longer than hydra.launcher.stop_before_s to get to a point where it can stop: raise that.",
}
WAITING = (
    "PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT", "SUSPENDED", "STOPPED",
)  # fmt: skip


def check_cluster() -> None:
    """Raises UserError where jobs cannot be submitted from this machine."""
    if find_spec("submitit") is None:
        raise UserError("hydra/launcher=submitit_slurm needs submitit.", "pip install 'aloll[slurm]'")
    if shutil.which("sbatch") is None or shutil.which("srun") is None:
        what = "hydra/launcher=submitit_slurm: there is no sbatch on this machine, from which jobs would be submitted."
        raise UserError(what, "On this machine alone: hydra/launcher=joblib")


def check_fits(order: Order, options: SubmititSlurm) -> None:
    """Raises UserError for a job that asks for more than its machine gives it."""
    processes, gpus = order.settings.processes, options.gpus_per_node
    if gpus is not None and processes > gpus:
        what = f"processes={processes} share {gpus} GPU{'s' * (gpus > 1)} per job."
        raise UserError(what, f"hydra.launcher.gpus_per_node={processes}, or null for none")
    if processes > options.cpus_per_task:
        what = f"processes={processes} share {options.cpus_per_task} CPU cores per job."
        raise UserError(what, f"hydra.launcher.cpus_per_task={processes}")


class Cluster(Queue):
    """An array of jobs of a SLURM cluster."""

    grace = 30.0  # of a network file system

    def __init__(self, root: Path, orders: Sequence[Order], options: SubmititSlurm) -> None:
        """Submit them.

        Args:
            root: a folder that all machines share.
            orders: the jobs, of which nothing is written down yet.
            options: of the array.

        Raises:
            UserError: SLURM refuses them.
        """
        # it would set up logging anew, which closes the handlers of all other libraries
        os.environ.setdefault("SUBMITIT_LOG_LEVEL", "NOCONFIG")
        import submitit
        from submitit.core.utils import FailedJobError, FailedSubmissionError
        from submitit.helpers import clean_env

        logging.getLogger("submitit").setLevel(logging.CRITICAL)
        for order in orders:
            _write(order, options)
        executor = submitit.SlurmExecutor(root / "submitit", max_num_timeout=0, python=f"{shlex.quote(sys.executable)} -P")
        executor.update_parameters(**_parameters(orders[0].command.stage, options))
        try:
            conf = {name: os.environ[name] for name in ("SLURM_CONF",) if name in os.environ}
            # of a job that this process may run in; what sbatch says is in the error
            with clean_env(), redirect_stderr(io.StringIO()):
                os.environ |= conf
                jobs = executor.map_array(run_job, [str(order.folder.absolute()) for order in orders])
        except (FailedJobError, FailedSubmissionError) as error:
            said = [line.partition("error: ")[2] for line in str(error).splitlines() if "error: " in line]
            raise UserError(f"SLURM refuses the jobs: {'; '.join(said) or error}.", "sinfo shows the partitions.") from None
        self._ids = [str(job.job_id) for job in jobs]
        self.array = self._ids[0].partition("_")[0]
        self._statuses = [Status(Phase.waiting)] * len(orders)
        self._began = self._asked = time.monotonic()
        self._answered: float | None = self._began
        self._question: _Question | None = None
        self._leaving: float | None = None

    def look(self) -> Sequence[Status]:
        now = time.monotonic()
        if self._question is None and now - self._asked >= min(SELDOM, max(OFTEN, (now - self._began) / 20)):
            self._asked = now
            self._question = _Question(self.array)
        if self._question is not None and (answer := self._question.answer) is not None:
            self._question = None
            self._take(answer, now)
        return self._statuses

    def _take(self, answer: subprocess.CompletedProcess[str], now: float) -> None:
        """What squeue says; what was known stays where it does not know."""
        if answer.returncode == 0 or "Invalid job id" in answer.stderr:
            self._answered = now
            rows = {row[0]: row[1:] for row in (line.split("|") for line in answer.stdout.splitlines()) if len(row) == 4}
            pairs = zip(self._ids, self._statuses, strict=True)
            self._statuses = [self._status(rows.get(job), before) for job, before in pairs]
        elif self._answered is not None and now - self._answered > SILENCE:
            self._answered = None  # it is said once
            self._say(f"warning: SLURM does not answer ({' '.join(answer.stderr.split())}); this command goes on waiting")

    @staticmethod
    def _status(row: list[str] | None, before: Status) -> Status:
        if row is None:  # squeue forgets a job some minutes after its end
            return before if before.phase is Phase.gone else Status(Phase.gone, "UNKNOWN")
        state, why, machine = row
        if state in ENDED:
            return Status(Phase.gone, state)
        return Status(Phase.waiting, why) if state in WAITING else Status(Phase.running, machine)

    def react(self, received: Sequence[int]) -> None:
        if not received:
            return
        if any(number != SIGINT for number in received):
            self._say(f"the jobs go on in the queue. To cancel them: scancel {self.array}")
            raise Interrupted.by(received[0])
        if len(received) > 1:
            subprocess.run(["scancel", self.array], capture_output=True, check=False)
            self._say(f"the jobs were cancelled (scancel {self.array})")
            raise Interrupted.by(SIGINT)
        if self._leaving is None:
            self._leaving = time.monotonic() + SECOND
            self._say(f"a second Ctrl-C within {SECOND:.0f} seconds cancels the jobs (scancel {self.array}); else they go on")
        if time.monotonic() > self._leaving:
            self._say(f"the jobs go on in the queue: squeue -j {self.array} shows them, scancel {self.array} cancels them")
            raise Interrupted.by(SIGINT)

    @staticmethod
    def _say(line: str) -> None:
        notes.print(line, markup=False)

    def lost(self, status: Status) -> UserError:
        hint = ENDED.get(status.detail, "SLURM does not know it any more.")
        what = f"SLURM ended the job: {status.detail}; finished work and checkpoints are kept."
        return UserError(what, f"{hint} Repeat the command, which continues.")

    def close(self) -> None:
        """Cancel what SLURM has requeued although it was done, as it does to a job that is preempted while it ends."""
        if any(status.phase is not Phase.gone for status in self._statuses):
            subprocess.run(["scancel", self.array], capture_output=True, check=False)


class _Question:
    """One call of squeue, which takes minutes where SLURM's daemon is away; nobody waits for it."""

    def __init__(self, array: str) -> None:
        words = ["squeue", "--noheader", "--array", "--states=all", f"--jobs={array}", "--format=%i|%T|%r|%N"]
        self._found: list[subprocess.CompletedProcess[str]] = []

        def ask() -> None:
            self._found.append(subprocess.run(words, capture_output=True, text=True, check=False))

        Thread(target=ask, daemon=True).start()

    @property
    def answer(self) -> subprocess.CompletedProcess[str] | None:
        """What it said, once it is there."""
        return self._found[0] if self._found else None


def _write(order: Order, options: SubmititSlurm) -> None:
    """Write a job down; it stops before the queue's limit, and uses the cores that it has."""
    seconds, hours = 60 * options.timeout_min - options.stop_before_s, order.settings.max_hours
    threads = max(1, options.cpus_per_task // order.settings.processes)
    if hours is not None and 3600 * hours <= seconds:  # the user's end, at which nothing goes on
        replace(order, threads=threads).write()
    else:
        replace(order, threads=threads, seconds=seconds, requeues=options.max_num_timeout).write()


def _parameters(stage: str, options: SubmititSlurm) -> dict[str, Any]:
    """What submitit makes lines of sbatch of."""
    more = {str(name).replace("_", "-"): value for name, value in options.additional_parameters.items()}
    # submitit always asks for a signal before the limit; the one of its choice would end a job that has just begun
    requests = {"requeue": True, "signal": "CONT@1"}
    found = {
        "job_name": f"aloll-{stage}",
        "time": options.timeout_min,
        "cpus_per_task": options.cpus_per_task,
        "mem": None if options.mem_gb is None else f"{round(1024 * options.mem_gb)}MB",
        "gpus_per_node": options.gpus_per_node,
        "array_parallelism": options.array_parallelism,
        "partition": options.partition,
        "account": options.account,
        "qos": options.qos,
        "constraint": options.constraint,
        "stderr_to_stdout": True,
        "setup": ["export SUBMITIT_LOG_LEVEL=CRITICAL", *options.setup],
        "additional_parameters": requests | more,
    }
    return {name: value for name, value in found.items() if value is not None}
