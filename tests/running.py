"""The command line as a user runs it, with a model so small that a whole line takes seconds."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

SMALL = [
    "model.hidden_size=32", "model.layers=1", "model.heads=2", "model.intermediate_size=64", "model.vocab_size=400",
    "updates=12", "eval_every=4", "eval_prompts=8", "checkpoint_every=3", "batch_size=8",
    "reference.updates=12", "reference.eval_every=4", "reference.batch_size=8",
    "task.max_prompt_tokens=24", "task.max_response_tokens=12", "values.epochs=2", "resamples=100", "threads=1",
]  # fmt: skip


# the process kills itself when it is about to open or rename a file whose path matches: no moment is missed
DIE = """
import os, re, signal, sys
def hook(event, args):
    if event in ("open", "os.rename") and re.search({pattern!r}, str(args[0])):
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
"""


def run(folder: Path, *arguments: str, code: int = 0, before: str = "", **more: str) -> tuple[str, str]:
    """Run ``aloll …`` to its end and check its exit code.

    Args:
        folder: where.
        arguments: as a user types them.
        code: the exit code that is due.
        before: Python that runs first.
        more: of the environment.

    Returns:
        stdout and stderr.
    """
    command = [sys.executable, "-c", before + "from aloll_cli.cli.main import main; main()", *arguments]
    environment = os.environ | {"HF_HUB_OFFLINE": "1"} | more
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=280, check=False, start_new_session=True
    )
    assert done.returncode == code, f"exit code {done.returncode}, stderr:\n{done.stderr[-3000:]}"
    assert twice(done.stderr) == []
    return done.stdout, done.stderr


def twice(said: str) -> list[str]:
    """The lines of a log or an error that repeat a word, as a sentence does that was put together from two halves."""
    return [line for line in said.splitlines() if re.search(r"\b([a-z]{3,}) \1\b", line)]


class Forked:
    """``aloll …`` in a fork of a process that has loaded the heavy libraries before, on one thread: saves their seconds."""

    def __init__(self, folder: Path, arguments: tuple[str, ...], before: str) -> None:
        self._place = Path(tempfile.mkdtemp())
        for name in ("out", "err"):
            (self._place / name).touch()
        forking = _forking()
        forking.stdin.write(json.dumps([str(folder), arguments, before, str(self._place)]) + "\n")
        forking.stdin.flush()
        self.pid = int(forking.stdout.readline())
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit code, or None as long as it runs."""
        with suppress(FileNotFoundError):
            self.returncode = int((self._place / "code").read_text())
        return self.returncode

    def send_signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def communicate(self, timeout: float = 280) -> tuple[str, str]:
        """Wait for its end; returns stdout and stderr."""
        end = time.monotonic() + timeout
        while self.poll() is None:
            assert time.monotonic() < end, f"no end after {timeout} seconds"
            time.sleep(0.01)
        said = (self._place / "out").read_text(), (self._place / "err").read_text()
        shutil.rmtree(self._place)
        return said


@cache
def _forking() -> "subprocess.Popen[str]":
    """One for every process of tests; it ends with that, when its stdin does."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    script = str(Path(__file__).parents[1] / "scripts" / "forking.py")
    return subprocess.Popen([sys.executable, script], env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def fork(folder: Path, *arguments: str, die_at: str | None = None, before: str = "") -> Forked:
    """Start ``aloll …`` in a folder, in a fork.

    Args:
        folder: where.
        arguments: as a user types them.
        die_at: a pattern of paths; a SIGKILL comes at the first file that matches.
        before: Python that runs first.
    """
    return Forked(folder, arguments, before + DIE.format(pattern=die_at) if die_at else before)


def quick(folder: Path, *arguments: str, code: int = 0, die_at: str | None = None, before: str = "") -> tuple[str, str]:
    """The same as ``run``, in a fork."""
    process = fork(folder, *arguments, die_at=die_at, before=before)
    out, err = process.communicate()
    assert process.returncode == code, f"exit code {process.returncode}, stderr:\n{err[-3000:]}"
    assert twice(err) == []
    return out, err
