"""Command lines in processes of their own that need not load the heavy libraries again: a process that has them forks for each.

Scripts call load() and start a Command. As a script it serves tests: reads ``[folder, arguments, Python to run first, place]`` a
line on stdin, writes the process id a line on stdout. What the process says goes to ``out`` and ``err`` in the place, and its
exit code, once it has ended, to ``code``.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

from aloll_cli.cli import launching, worker
from aloll_cli.cli.execution import _quiet_libraries
from aloll_cli.cli.main import main

# what the stages load; they compute on one thread, since OpenMP was loaded before threads= was read
LOADED = (
    "accelerate", "datasets", "matplotlib.pyplot", "peft", "rouge_score.rouge_scorer", "sacrebleu.metrics.bleu", "scipy.stats",
    "sklearn.feature_extraction.text", "torch", "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto", "transformers.models.llama.modeling_llama",
    "vaderSentiment.vaderSentiment", "aloll_cli.cli.composition", "aloll_cli.models.logprobs", "aloll_cli.models.base",
)  # fmt: skip


def load() -> None:
    """Load the heavy libraries; workers of ``processes=`` are forked, too, from now on."""
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["HF_HUB_OFFLINE"] = "1"
    _quiet_libraries(verbose=False)
    for name in LOADED:
        import_module(name)
    launching.subprocess = SimpleNamespace(Popen=Worker, DEVNULL=None)
    gc.freeze()  # a collection in a fork would copy every page that it looks at, and so would an interpreter's orderly end


def serve() -> None:
    load()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the keepers
    for line in sys.stdin:
        folder, arguments, before, place = json.loads(line)
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            keep(Path(folder), arguments, before, Path(place))
            os._exit(0)


def keep(folder: Path, arguments: list[str], before: str, place: Path) -> None:
    """Start a command, tell its process id, and write down the exit code in the end."""
    child = Command(folder, arguments, place / "out", place / "err", before)
    os.write(1, f"{child.pid}\n".encode())
    (place / ".code").write_text(str(child.wait()))
    (place / ".code").rename(place / "code")


def code_of(command: Callable[[], int | None]) -> int:
    """What a command line ends with, all of its output written."""
    try:
        return command() or 0
    except SystemExit as end:
        return int(end.code or 0)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


class Forked:
    """A fork of this process that runs something; as much of Popen as is used."""

    def __init__(self, work: Callable[[], int | None]) -> None:
        self.returncode: int | None = None
        sys.stdout.flush()  # or the fork would say it again
        self.pid = os.fork()
        if self.pid == 0:
            os.setsid()
            os._exit(code_of(work))

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code. Raises subprocess.TimeoutExpired after so many seconds."""
        end = float("inf") if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() >= end:
                raise subprocess.TimeoutExpired("a fork", timeout or 0.0)
            time.sleep(0.01)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Command(Forked):
    """``aloll …`` in a folder.

    Args:
        folder: where.
        arguments: as a user types them.
        out: a file that its output is appended to.
        err: the same for what it says on stderr.
        before: Python that runs first.
    """

    def __init__(self, folder: Path, arguments: list[str], out: Path, err: Path, before: str = "") -> None:
        def work() -> None:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            for number, file in enumerate([Path(os.devnull), out, err]):
                os.dup2(os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND), number)
            os.chdir(folder)
            sys.argv = ["aloll", *arguments]
            exec(before, {})
            main()

        super().__init__(work)


class Worker(Forked):
    """One of the processes of ``processes=``, forked instead of started."""

    def __init__(
        self, words: list[str], env: dict[str, str], start_new_session: bool, stdout: None, pass_fds: tuple[int, ...]
    ) -> None:
        def work() -> int:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.environ.clear()
            os.environ.update(env)
            sys.argv = words[words.index("-m") + 1 :]
            return worker.main()

        super().__init__(work)


if __name__ == "__main__":
    serve()
