"""A job of a sweep in a process of its own, which a launcher starts, perhaps on another machine.

What it is to do and what came of it stand in a folder that both processes see: the command and the settings; what it prints and
logs; and, once it has ended by itself, its outcome. Nothing in it is pickled, and no value of ``${oc.env:…}`` is written down.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aloll_cli.cli.jobs import FAILURES, run_stage, said_of
from aloll_cli.cli.validation import resolved
from aloll_cli.command import Command
from aloll_cli.errors import UserError
from aloll_cli.files import read_json, write_json, write_text
from aloll_cli.settings.plugins import settings_as_text, settings_from_text
from aloll_cli.settings.root import Settings
from aloll_cli.stages import command_of
from aloll_cli.stopping import DEADLINE, STARTED, Interrupted, interruptible
from aloll_cli.watchdog import end_with_parent, watched

ORDER, SETTINGS, RESULTS, LOG, OUTCOME = "order.json", "settings.yaml", "results.txt", "log.txt", "outcome.json"
REQUEUED = 75  # exit code of a job that has gone back into the queue


@dataclass(frozen=True)
class Order:
    """One job.

    Attributes:
        folder: where everything about it stands.
        command: the command line as typed.
        words: what this job has and not every other.
        settings: its options.
        threads: what each of its processes may use where ``threads`` is null.
        seconds: when it stops, from the start of its process on; None: at its end, or at that of ``max_hours``.
        requeues: how often it may go back into the queue then; None: it has ended.
    """

    folder: Path
    command: Command
    words: str
    settings: Settings
    threads: int = 1
    seconds: float | None = None
    requeues: int | None = None

    def write(self) -> None:
        """Write it down for the process that runs it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(self.folder / SETTINGS, settings_as_text(self.settings, with_secrets=False))
        limits = {"threads": self.threads, "seconds": self.seconds, "requeues": self.requeues}
        write_json(self.folder / ORDER, {"stage": self.command.stage, "arguments": self.command.arguments} | limits)

    def skip(self, why: str) -> None:
        """Write down that it was not started."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / OUTCOME, {"ended": "done", "value": None, "error": None, "stopped": why, "requeued": 0})


@dataclass(frozen=True)
class Outcome:
    """What came of a job.

    Attributes:
        value: what its stage returned, where that is a number.
        error: why it failed, where the job could say it.
        failed: whether it did.
        stopped: why it stopped in order, as ``max_hours reached``; "" where it did not.
        requeued: how often it went back into the queue at its limit.
    """

    value: float | None = None
    error: UserError | None = None
    failed: bool = False
    stopped: str = ""
    requeued: int = 0


def outcome_of(folder: Path) -> Outcome | None:
    """What came of a job; None as long as it has not ended by itself."""
    try:
        said: dict[str, Any] = read_json(folder / OUTCOME)
    except FileNotFoundError:
        return None
    if said["ended"] is None:
        return None
    error = UserError(*said["error"]) if said["error"] else None
    return Outcome(said["value"], error, said["ended"] == "failed", said["stopped"], said["requeued"])


def last_line(folder: Path) -> str:
    """The last line that a job has logged."""
    try:
        with (folder / LOG).open("rb") as stream:
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - 2000))
            lines = stream.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def run_job(folder: str) -> None:
    """Run the job in a folder and write down its outcome; what a launcher's process calls.

    At the end of its time it goes back into SLURM's queue, as often as its order says.
    """
    place = Path(folder)
    order = read_json(place / ORDER)
    before = _requeued(place)
    command = command_of(order["stage"], order["arguments"])
    for name, descriptor, flags in ((RESULTS, 1, os.O_TRUNC), (LOG, 2, os.O_APPEND)):
        os.dup2(os.open(place / name, os.O_WRONLY | os.O_CREAT | flags, 0o666), descriptor)
    os.environ |= {name: str(order["threads"]) for name in ("OMP_NUM_THREADS", "RAYON_NUM_THREADS")}
    os.environ.pop(DEADLINE, None)  # of a job from which the sweep was sent
    if order["seconds"] is not None:
        os.environ[DEADLINE] = str(time.time() + STARTED + order["seconds"] - time.monotonic())
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # with which submitit would end a step in the middle
    said: dict[str, Any] = {"ended": "done", "value": None, "error": None, "stopped": "", "requeued": before}
    try:
        with interruptible():
            settings = settings_from_text((place / SETTINGS).read_text(encoding="utf-8"), resolved)
            found = run_stage(command, settings)
        said["value"] = found if isinstance(found, int | float) and math.isfinite(found) else None
    except Interrupted as stop:
        if stop.code:  # a signal: whoever sent it knows what is next
            sys.exit(stop.code)
        if order["requeues"] is not None:
            said |= _requeue(place, before, order["requeues"])
        else:
            said["stopped"] = stop.reason
    except FAILURES as error:
        found = said_of(error, command.arguments)
        said |= {"ended": "failed", "error": found.args if found else None}
    except Exception as error:
        traceback.print_exc()
        what = f"an error in aloll itself, {type(error).__name__}: {error}."
        said |= {"ended": "failed", "error": [what, f"Please report it with the traceback in {place / LOG}"]}
    sys.stdout.flush()
    write_json(place / OUTCOME, said)


def _requeued(place: Path) -> int:
    """How often a job has gone back into the queue at its limit."""
    try:
        return int(read_json(place / OUTCOME)["requeued"])
    except FileNotFoundError:
        return 0


def _requeue(place: Path, before: int, most: int) -> dict[str, Any]:
    """Send this job back into SLURM's queue; returns why not, where it may not."""
    if before >= most:
        what = f"the job has reached its time limit {before + 1} times; its checkpoint is kept."
        more = "hydra.launcher.timeout_min or hydra.launcher.max_num_timeout"
        return {"ended": "failed", "error": [what, f"Raise {more}, and repeat the command, which continues."]}
    write_json(place / OUTCOME, {"ended": None, "requeued": before + 1})
    task = os.environ.get("SLURM_ARRAY_TASK_ID")
    job = os.environ["SLURM_JOB_ID"] if task is None else f"{os.environ['SLURM_ARRAY_JOB_ID']}_{task}"
    sys.stderr.write(f"the time limit is near: job {job} goes back into the queue, and goes on from its checkpoint\n")
    done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        sys.exit(REQUEUED)
    why = " ".join(done.stderr.split()) or "no reason given"
    what = f"the job has reached its time limit, and SLURM does not take it back into the queue: {why}"
    return {"ended": "failed", "error": [what, "Its checkpoint is kept: repeat the command, which continues."]}


def main() -> int:
    """Usage: python -m aloll_cli.cli.queued FOLDER. For a process on the machine of the launcher, with which it ends."""
    stage = json.loads((Path(sys.argv[1]) / ORDER).read_text(encoding="utf-8"))["stage"]
    with watched(f"aloll {stage}:"):
        end_with_parent()
        run_job(sys.argv[1])
    return 0


if __name__ == "__main__":
    sys.exit(main())
