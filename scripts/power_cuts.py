"""Cut the power during `aloll run`: an ext4 file system in a file, shut down at random moments, repaired, and gone on with.

    python scripts/power_cuts.py                    # right after the end, and at 20 random moments
    python scripts/power_cuts.py --cuts 5 --seed 3

Needs root, loop devices and e2fsprogs; says so and ends with exit code 77 where it cannot run. Each cut shuts the file system
down without flushing its journal (EXT4_IOC_SHUTDOWN): what was not synced is lost, as in a power cut. After e2fsck every
artifact that the command had said to be built must be there, every artifact that says "complete" must be whole (`aloll verify`),
and the repeated command must end with the bits of an uninterrupted run. Ends with exit code 1 where one of these does not hold.

The commands are forks of this process, which has loaded the libraries, so that cuts fall into the stages; those of every fifth
cut are started as a user starts them.
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import os
import random
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import forking
from torture import SMALL, contents, start

from aloll_cli.store.inventory import State, entries

SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN, of linux/ext4.h
NEW_MOUNTS = 0x20000  # CLONE_NEWNS, of linux/sched.h
WITHOUT_FLUSH = 2  # EXT4_GOING_FLAGS_NOLOGFLUSH
SIZE = 200 << 20  # bytes of the file system
CANNOT = 77  # exit code of a skipped test, as in automake
REAL = 5  # one cut of so many is not forked
STARTING = 3.0  # seconds more that such a command takes


def why_not() -> str | None:
    """Why the script cannot run here, if so."""
    if os.geteuid() != 0:
        return "mounting a file system needs root"
    missing = [name for name in ("mkfs.ext4", "e2fsck", "mount", "umount") if shutil.which(name) is None]
    return f"{', '.join(missing)} is not installed" if missing else None


def run(*words: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run([str(word) for word in words], check=check, capture_output=True, text=True)


def keep_mounts_private() -> None:
    """Mount where no other program copies it: such a copy (``ip netns exec`` makes one) keeps what was shut down alive."""
    if ctypes.CDLL(None, use_errno=True).unshare(NEW_MOUNTS) == 0:
        run("mount", "--make-rprivate", "/")


@contextmanager
def mounted(image: Path, at: Path) -> Iterator[None]:
    """A file system in a file, mounted on a loop device."""
    run("mount", "-o", "loop", image, at)
    try:
        yield
    finally:
        for _ in range(100):  # a process that was killed may be about to end
            if run("umount", at, check=False).returncode == 0:
                break
            time.sleep(0.1)
        else:
            sys.exit(f"{at} cannot be unmounted")


def shut_down(at: Path) -> None:
    """Let nothing reach the file system any more."""
    descriptor = os.open(at, os.O_RDONLY)
    try:
        fcntl.ioctl(descriptor, SHUTDOWN, struct.pack("I", WITHOUT_FLUSH))
    finally:
        os.close(descriptor)


def begin(folder: Path, options: list[str], log: Path, real: bool = False) -> Any:
    """Start ``aloll run``; returns what has pid, wait and poll."""
    return start(folder, options, log) if real else forking.Command(folder, ["run", *options], log, log)


def end(process: Any) -> None:
    """Kill a command and its processes."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@dataclass
class Cut:
    """What a power cut left.

    Attributes:
        complete: the number of complete artifacts.
        built: the number of artifacts that the command had said to be built.
        wrong: those of them that are not there, and what is damaged.
        results: of the repeated command; where it failed, what to look at.
    """

    complete: int
    built: int
    wrong: list[str]
    results: dict[str, object] | str


def cut(root: Path, options: list[str], moment: float | None, log: Path, real: bool) -> Cut:
    """One power cut, after ``moment`` seconds or right after the end."""
    image, at, said = root / "image", root / "disk", root / "verify.log"
    image.unlink(missing_ok=True)
    said.unlink(missing_ok=True)
    at.mkdir(exist_ok=True)
    with image.open("wb") as stream:
        stream.truncate(SIZE)
    run("mkfs.ext4", "-q", "-F", image)
    with mounted(image, at):
        process = begin(at, options, log, real)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=moment)
        shut_down(at)
        end(process)
    built = re.findall(r"^built +(\S+) in ", log.read_text(errors="replace"), re.MULTILINE)
    run("e2fsck", "-fy", image, check=False)
    with mounted(image, at):
        complete = [f"{one.kind}/{one.name}" for one in entries(at / "outputs") if one.state is State.complete]
        forking.Command(at, ["verify", "threads=1"], said, log).wait()
        damaged = [line for line in said.read_text().splitlines() if ".partial" not in line]
        code = begin(at, options, log, real).wait()
        results = contents(at / "outputs") if code == 0 else f"exit code {code}, see {log}"
    return Cut(len(complete), len(built), sorted(set(built) - set(complete)) + damaged, results)


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cuts", type=int, default=20, help="at random moments of a run")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--folder", type=Path, help="where to work; default: a temporary folder")
    parser.add_argument("options", nargs="*", default=SMALL, help="of aloll run; default: the embedded task, very short")
    args = parser.parse_args()
    if reason := why_not():
        sys.stdout.write(f"not run: {reason}\n")
        return CANNOT
    keep_mounts_private()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # what is mounted is unmounted
    root = (args.folder or Path(tempfile.mkdtemp(prefix="aloll-power-"))).resolve()
    options = list(args.options)
    (root / "uninterrupted").mkdir(parents=True)
    forking.load()
    begun = time.monotonic()
    if code := begin(root / "uninterrupted", options, root / "uninterrupted.log").wait():
        sys.exit(f"the uninterrupted run ended with exit code {code}, see {root / 'uninterrupted.log'}")
    seconds = time.monotonic() - begun
    expected = contents(root / "uninterrupted" / "outputs")
    draw = random.Random(args.seed)
    wrong = 0
    for number in range(args.cuts + 1):
        real = number % REAL == REAL - 1
        length = seconds + STARTING if real else seconds
        moment = None if number == 0 else draw.uniform(0, length)
        found = cut(root, options, moment, root / f"cut-{number}.log", real)
        if isinstance(found.results, str):
            verdict = found.results
        else:
            names = expected.keys() | found.results.keys()
            different = sorted(name for name in names if expected.get(name) != found.results.get(name))
            verdict = f"DIFFERENT: {different}" if different else "equal bit for bit"
        wrong += bool(found.wrong) or verdict != "equal bit for bit"
        when = "after the end" if moment is None else f"after {moment:.1f} of {length:.1f} s{', started anew' * real}"
        sys.stdout.write(f"cut {when}: {found.built} artifacts said to be built, {found.complete} complete, ")
        sys.stdout.write(f"lost or damaged: {found.wrong or 'none'}; repeated: {verdict}\n")
        sys.stdout.flush()
    sys.stdout.write(f"{args.cuts + 1 - wrong} of {args.cuts + 1} cuts: whole, and equal bit for bit\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
