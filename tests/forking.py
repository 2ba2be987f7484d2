"""Command lines in processes of their own that need not load the heavy libraries again: a process that has them forks for each.

Reads ``[folder, arguments, Python to run first, place]`` a line on stdin, writes the process id a line on stdout.
What the process says goes to ``out`` and ``err`` in the place, and its exit code, once it has ended, to ``code``.
"""

import gc
import json
import os
import signal
import sys
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


def serve() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    _quiet_libraries(verbose=False)
    for name in LOADED:
        import_module(name)
    launching.subprocess = SimpleNamespace(Popen=Worker, DEVNULL=None)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the keepers
    gc.freeze()  # a collection in a fork would copy every page that it looks at, and so would an interpreter's orderly end
    for line in sys.stdin:
        folder, arguments, before, place = json.loads(line)
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            keep(folder, arguments, before, Path(place))
            os._exit(0)


def keep(folder: str, arguments: list[str], before: str, place: Path) -> None:
    """Fork, tell the process id, and write down the exit code in the end."""
    child = os.fork()
    if child == 0:
        os.setsid()
        for number, file in enumerate([os.devnull, place / "out", place / "err"]):
            os.dup2(os.open(file, os.O_RDWR), number)
        os.chdir(folder)
        sys.argv = ["aloll", *arguments]
        exec(before, {})
        os._exit(code_of(main))
    os.write(1, f"{child}\n".encode())
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    (place / ".code").write_text(str(code))
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


class Worker:
    """One of the processes of ``processes=``, forked instead of started; as much of Popen as launching.py uses."""

    def __init__(self, words: list[str], env: dict[str, str], start_new_session: bool, stdout: None) -> None:
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.setsid()
            os.environ.clear()
            os.environ.update(env)
            sys.argv = words[words.index("-m") + 1 :]
            os._exit(code_of(worker.main))

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


if __name__ == "__main__":
    serve()
