"""The command line as a user runs it, with a model so small that a whole line takes seconds."""

import json
import os
import signal
import subprocess
import sys
import tempfile
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


def start(folder: Path, *arguments: str, die_at: str | None = None, before: str = "", **more: str) -> "subprocess.Popen[str]":
    """Start ``aloll …`` in a folder.

    Args:
        folder: where.
        arguments: as a user types them.
        die_at: a pattern of paths; a SIGKILL comes at the first file that matches.
        before: Python that runs first.
        more: of the environment.
    """
    before += DIE.format(pattern=die_at) if die_at else ""
    command = [sys.executable, "-c", before + "from aloll_cli.cli import main; main()", *arguments]
    environment = os.environ | {"HF_HUB_OFFLINE": "1"} | more
    return subprocess.Popen(
        command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )


def run(folder: Path, *arguments: str, code: int = 0, before: str = "", **more: str) -> tuple[str, str]:
    """Run ``aloll …`` to its end and check its exit code; returns stdout and stderr."""
    process = start(folder, *arguments, before=before, **more)
    out, err = process.communicate(timeout=280)
    assert process.returncode == code, f"exit code {process.returncode}, stderr:\n{err[-3000:]}"
    return out, err


@cache
def _forking() -> "subprocess.Popen[str]":
    """One for every process of tests; it ends with that, when its stdin does."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    script = str(Path(__file__).with_name("forking.py"))
    return subprocess.Popen([sys.executable, script], env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def quick(folder: Path, *arguments: str, code: int = 0, die_at: str | None = None, before: str = "") -> tuple[str, str]:
    """The same in a fork of a process that has loaded the heavy libraries before, on one thread: saves their seconds."""
    before += DIE.format(pattern=die_at) if die_at else ""
    with tempfile.TemporaryDirectory() as place:
        files = [Path(place, name) for name in ("out", "err")]
        for file in files:
            file.touch()
        process = _forking()
        process.stdin.write(json.dumps([str(folder), arguments, before, *map(str, files)]) + "\n")
        process.stdin.flush()
        found = int(process.stdout.readline())
        out, err = (file.read_text() for file in files)
    assert found == code, f"exit code {found}, stderr:\n{err[-3000:]}"
    return out, err


def was_killed(process: "subprocess.Popen[str]") -> bool:
    """Wait for a process's end; whether a SIGKILL brought it."""
    process.communicate(timeout=280)
    return process.returncode == -signal.SIGKILL
