"""Run a sweep of six policies on a real SLURM, and compare every bit of it with the same sweep in one process.

    apt-get install slurm-wlm munge && pip install -e '.[slurm]'
    python scripts/slurm_sweep.py            # two minutes on two CPU cores; --folder FOLDER keeps what it makes

One job is preempted and requeued by SLURM, another one is held up until its time limit is near and requeues itself. All six must
end, each artifact must have been built once, the tables must be equal, and nothing of submitit's may be on the terminal.
Ends with exit code 1 where one of these does not hold, and leaves no daemon behind.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from slurm import asked, cluster, missing
from torture import contents

VALUES = ("variant=nll,seq,alol", "seed=1,2")
SMALL = (
    "model.hidden_size=32", "model.layers=1", "model.heads=2", "model.intermediate_size=64", "model.vocab_size=400",
    "updates=60", "eval_every=30", "eval_prompts=8", "checkpoint_every=5", "batch_size=8",
    "reference.updates=12", "reference.eval_every=6", "reference.batch_size=8",
    "task.max_prompt_tokens=24", "task.max_response_tokens=12", "values.epochs=2", "resamples=100", "threads=1",
    "task.limit=400", "task.limit_eval=60",
)  # fmt: skip
LAUNCHER = (
    "hydra/launcher=submitit_slurm", "hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=1.5",
    "hydra.launcher.gpus_per_node=null",
)  # fmt: skip
ROUNDS = 20  # of the seconds that a job has: the sweep must have ended by then


def limits(seconds: int) -> tuple[str, str]:
    """Options with which a job stops and is requeued after so many seconds."""
    minutes = math.ceil(seconds / 60) + 2
    return f"hydra.launcher.timeout_min={minutes}", f"hydra.launcher.stop_before_s={60 * minutes - seconds}"


def start(folder: Path, environment: dict[str, str], *more: str) -> subprocess.Popen[bytes]:
    """Start a sweep in a folder, with its stdout and stderr in files there."""
    folder.mkdir()
    command = [sys.executable, "-c", "from aloll_cli.cli.main import main; main()", "run", "-m", *VALUES, *SMALL, *more]
    with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
        return subprocess.Popen(command, cwd=folder, env=environment | {"HF_HUB_OFFLINE": "1"}, stdout=out, stderr=err)


class Tormentor:
    """Has one job preempted, and holds another one up, each as soon as one is seen training."""

    def __init__(self, folder: Path, environment: dict[str, str], seconds: int) -> None:
        """``seconds``: what a job has until its limit."""
        self._folder, self._environment, self._seconds = folder, environment, seconds
        self.preempted = self.held = ""
        self._until = 0.0

    def look(self) -> None:
        """Do what is due."""
        if self.held and self._until and time.monotonic() > self._until:
            self._until = 0.0
            asked(self._environment, "scancel", "--signal=CONT", self.held)
        training = self._training()
        if training and not self.preempted:
            asked(self._environment, "sbatch", "--partition=urgent", "--output=/dev/null", "--wrap=sleep 1")
            self.preempted = self._wait_for_the_preempted()
        elif training and not self.held and training[0] != self.preempted:
            self.held, self._until = training[0], time.monotonic() + self._seconds + 2
            asked(self._environment, "scancel", "--signal=STOP", self.held)

    def _training(self) -> list[str]:
        """The jobs that are training a policy now."""
        running = asked(self._environment, "squeue", "--noheader", "--array", "--states=RUNNING", "--format=%i").split()
        logs = {log.parent.name: log.read_text() for log in self._folder.glob("outputs/.sweeps/*/jobs-*/*/log.txt")}
        begun = {place for place, text in logs.items() if "  policy/" in text and "built     policy/" not in text}
        return [job for job in running if job.partition("_")[2] in begun]

    def _wait_for_the_preempted(self) -> str:
        """The job that SLURM has sent back into the queue."""
        end = time.monotonic() + 20
        while time.monotonic() < end:
            rows = asked(self._environment, "squeue", "--noheader", "--array", "--format=%i|%r").split()
            if found := [row.partition("|")[0] for row in rows if row.endswith("|BeginTime")]:
                return found[0]
            time.sleep(0.3)
        return "none"


def results(outputs: Path) -> dict[str, Any]:
    """Every result of a sweep by its relative path; left out are what Hydra writes and the page with the seconds of training."""
    return {name: value for name, value in contents(outputs).items() if not re.search(r"^\.sweeps/|/report/index\.", name)}


def tables(text: str) -> str:
    """What a sweep prints at its end, from the comparison on."""
    return text[text.index("6 runs: mean") :]


def built(folder: Path) -> dict[str, int]:
    """How often the building of each artifact was begun, by its own log."""
    logs = [log for log in folder.glob("outputs/*/*/*/log.txt") if log.parent.parent.name != "report"]
    return {log.parent.name: log.read_text().count(" building  ") for log in logs}


def main(arguments: list[str]) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="a new folder to work in; default: a temporary one, which is removed")
    parser.add_argument("--seconds", type=int, default=60, help="what a job has until it is requeued; a busy machine needs more")
    args = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if wanted := missing():
        sys.stdout.write(f"no SLURM on this machine, nothing was checked: {wanted}\n")
        return 0
    if args.folder is not None:
        args.folder.mkdir(parents=True)
        return check(args.folder.absolute(), args.seconds)
    with tempfile.TemporaryDirectory(prefix="aloll-slurm-") as folder:
        return check(Path(folder), args.seconds)


def check(root: Path, seconds: int) -> int:
    """Returns the exit code; what does not hold is said. A job has so many seconds until its limit."""
    began = time.monotonic()
    with cluster(root / "cluster") as environment:
        process = start(root / "slurm", environment, *LAUNCHER, *limits(seconds))
        tormentor = Tormentor(root / "slurm", environment, seconds)
        try:
            while process.poll() is None and time.monotonic() < began + ROUNDS * seconds:
                tormentor.look()
                time.sleep(0.2)
        finally:
            process.terminate()
            process.wait()
    queued = time.monotonic() - began
    local = start(root / "local", dict(os.environ))
    codes = process.returncode, local.wait()
    said = (root / "slurm" / "err").read_text(errors="replace")
    sys.stdout.write(said)
    if codes != (0, 0):
        sys.stdout.write((root / "local" / "err").read_text(errors="replace") * bool(codes[1]) + f"exit codes {codes}\n")
        return 1
    found, expected = (results(root / name / "outputs") for name in ("slurm", "local"))
    counts = built(root / "slurm")
    once = sorted(name for name, count in counts.items() if count != 1)
    out, local_out = ((root / name / "out").read_text() for name in ("slurm", "local"))
    wrong: dict[str, Any] = {
        "files that differ": sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name)),
        "artifacts that were not begun once": once,
        "tables": [] if tables(out) == tables(local_out) else ["they differ"],
        "printed results": [] if out == local_out else ["they differ"],
        "chatter of submitit": re.findall(r".*(?:submitit|sacct).*", said),
        "jobs that were not disturbed": [what for what in ("preempted", "held") if getattr(tormentor, what) in ("", "none")],
        "lines about requeued jobs": [] if said.count("requeued  ") >= 2 else [said.count("requeued  ")],
        "lines about what jobs do": [] if re.search(r"^  variant=\w+ seed=\d: \S", said, re.MULTILINE) else ["none"],
        "folders that were left": [str(path) for path in root.glob("slurm/outputs/.sweeps/*/jobs-*")],
    }
    for what, those in wrong.items():
        sys.stdout.write(f"{what}: {those}\n" if those else "")
    preempted, held = tormentor.preempted, tormentor.held
    sys.stdout.write(
        f"6 jobs in {queued:.0f} s, {preempted} preempted, {held} at its time limit\n"
        f"{len(counts)} artifacts, each begun once: {not once}\n"
        f"{len(found)} files, equal to those of one process: {found == expected}; "
        f"tables equal: {tables(out) == tables(local_out)}\n"
    )
    return 1 if any(wrong.values()) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
