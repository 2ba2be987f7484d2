"""Ends a process that does not end by itself soon after SIGTERM or SIGHUP, and one whose parent has gone.

Python runs a signal's handler between two of its own instructions: not while a library holds the interpreter, and a handler
that only asks to stop does not end a loop in a template or a download. So a second, tiny process is told of the signal by the C
part of the handler (``signal.set_wakeup_fd``) and kills this one, with the processes that it started, if it is still there
after LIMIT seconds. What tells the operating system to ignore these signals (SIG_IGN) is ended by SIGKILL only.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

LIMIT = 12.0  # seconds from SIGTERM or SIGHUP to SIGKILL; batch queues and container hosts allow 15 to 30
PARENT = "ALOLL_PARENT"  # environment variable: the process that started a worker
BUSY, IDLE, END = b"b", b"i", b"e"  # what the watchdog is told besides the numbers of signals
SIGKILL_SAID = "did not stop in time and was ended; finished work is kept: repeat the command to continue."

# stdin is a pipe from the watched process, closed when that has ended
CODE = """
import os, select, sys, time
os.chdir("/")  # whatever was the current folder can be unmounted
deadline, busy, asked = None, False, False

def descendants(of):
    parents = {}
    for name in filter(str.isdigit, os.listdir("/proc") if os.path.isdir("/proc") else []):
        try:
            with open(f"/proc/{name}/stat", "rb") as stream:
                parents[int(name)] = int(stream.read().rpartition(b")")[2].split()[1])
        except OSError:
            pass
    found = [of]
    for process in found:
        found += [child for child, parent in parents.items() if parent == process and child != os.getpid()]
    return found[1:]

while True:
    left = None if deadline is None or busy else max(0.0, deadline - time.monotonic())
    if not select.select([0], [], [], left)[0]:
        try:
            os.kill(int(sys.argv[1]), 0)
            try:
                os.write(2, sys.argv[4].encode())
            except OSError:
                pass  # the terminal has gone
            below = descendants(int(sys.argv[1]))
            for process in [int(sys.argv[1]), *below]:
                os.kill(process, 9)
        except OSError:
            pass
        break
    said = os.read(0, 1)
    if said in (b"", b"e"):
        break
    if said in (b"b", b"i"):
        busy = said == b"b"
        deadline = time.monotonic() + float(sys.argv[2]) if asked else None
    elif str(said[0]) in sys.argv[3].split(",") and not asked:
        asked, deadline = True, time.monotonic() + float(sys.argv[2])
"""

_pipe: int | None = None  # to the watchdog of this process


@contextmanager
def watched(name: str) -> Iterator[None]:
    """Within this context the process ends within LIMIT seconds after SIGTERM or SIGHUP, or after what it is patient about.

    Args:
        name: of the command, for the message of its violent end.
    """
    global _pipe
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    words = [str(os.getpid()), str(LIMIT), f"{int(signal.SIGTERM)},{int(signal.SIGHUP)}", f"{name} {SIGKILL_SAID}\n"]
    # a session of its own: the signals of a terminal or a batch queue are for the watched process
    dog = subprocess.Popen([sys.executable, "-I", "-S", "-c", CODE, *words], stdin=reading, start_new_session=True)
    os.close(reading)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    _pipe = writing
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        _tell(END)  # in a fork of this process the pipe may stay open
        _pipe = None
        os.close(writing)
        dog.wait()


@contextmanager
def patient() -> Iterator[None]:
    """Within this context SIGTERM and SIGHUP have no limit: a checkpoint is written to its end."""
    _tell(BUSY)
    try:
        yield
    finally:
        _tell(IDLE)


def _tell(what: bytes) -> None:
    if _pipe is not None:
        with suppress(OSError):
            os.write(_pipe, what)


def end_with_parent() -> None:
    """Let the operating system send SIGTERM to this process when its parent ends, by whatever signal (Linux)."""
    if sys.platform == "linux":
        set_death_signal = 1  # PR_SET_PDEATHSIG, prctl(2)
        ctypes.CDLL(None).prctl(set_death_signal, int(signal.SIGTERM), 0, 0, 0)
        if os.getppid() != int(os.environ.get(PARENT, os.getppid())):  # it ended before
            os.kill(os.getpid(), signal.SIGTERM)
