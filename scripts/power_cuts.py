"""Cut the power during `aloll run`: an ext4 file system in a file, shut down at random moments, repaired, and gone on with.

    python scripts/power_cuts.py                    # right after the end, and at 20 random moments
    python scripts/power_cuts.py --cuts 5 --seed 3

Needs root, loop devices and e2fsprogs; says so and ends with exit code 77 where it cannot run. Each cut shuts the file system
down without flushing its journal (EXT4_IOC_SHUTDOWN): what was not synced is lost, as in a power cut. After e2fsck every
artifact that says "complete" must be whole (`aloll verify`), and the repeated command must end with the bits of an
uninterrupted run. Ends with exit code 1 where one of both does not hold.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from torture import EMBEDDED, contents, start

from aloll_cli.store.inventory import State, entries

SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN, of linux/ext4.h
WITHOUT_FLUSH = 2  # EXT4_GOING_FLAGS_NOLOGFLUSH
SIZE = 200 << 20  # bytes of the file system
CANNOT = 77  # exit code of a skipped test, as in automake


def why_not() -> str | None:
    """Why the script cannot run here, if so."""
    if os.geteuid() != 0:
        return "mounting a file system needs root"
    missing = [name for name in ("mkfs.ext4", "e2fsck", "mount", "umount") if shutil.which(name) is None]
    return f"{', '.join(missing)} is not installed" if missing else None


def run(*words: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run([str(word) for word in words], check=check, capture_output=True, text=True)


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


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a command and its processes."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def cut(root: Path, options: list[str], moment: float | None, log: Path) -> tuple[int, list[str], dict[str, object] | str]:
    """One power cut, after ``moment`` seconds or right after the end.

    Returns:
        the number of artifacts that were complete after it, what is damaged in them, and the results of the repeated command,
        or what it said where it failed.
    """
    image, at = root / "image", root / "disk"
    image.unlink(missing_ok=True)
    at.mkdir(exist_ok=True)
    with image.open("wb") as stream:
        stream.truncate(SIZE)
    run("mkfs.ext4", "-q", "-F", image)
    with mounted(image, at):
        process = start(at, options, log)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=moment)
        shut_down(at)
        end(process)
    run("e2fsck", "-fy", image, check=False)
    with mounted(image, at):
        found = [entry for entry in entries(at / "outputs") if entry.state is not State.interrupted]
        verify = [sys.executable, "-m", "aloll_cli", "verify", "threads=1"]
        said = subprocess.run(verify, cwd=at, capture_output=True, text=True, check=False).stdout.splitlines()
        damaged = [line for line in said if ".partial" not in line] if said else []
        code = start(at, options, log).wait()
        results = contents(at / "outputs") if code == 0 else f"exit code {code}, see {log}"
    return sum(entry.state is State.complete for entry in found), damaged, results


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cuts", type=int, default=20, help="at random moments of a run")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--folder", type=Path, help="where to work; default: a temporary folder")
    parser.add_argument("options", nargs="*", default=EMBEDDED, help="of aloll run; default: a short embedded task")
    args = parser.parse_args()
    if reason := why_not():
        sys.stdout.write(f"not run: {reason}\n")
        return CANNOT
    root = args.folder or Path(tempfile.mkdtemp(prefix="aloll-power-"))
    options = list(args.options)
    (root / "uninterrupted").mkdir(parents=True)
    begun = time.monotonic()
    if code := start(root / "uninterrupted", options, root / "uninterrupted.log").wait():
        sys.exit(f"the uninterrupted run ended with exit code {code}, see {root / 'uninterrupted.log'}")
    seconds = time.monotonic() - begun
    expected = contents(root / "uninterrupted" / "outputs")
    draw = random.Random(args.seed)
    wrong = 0
    for number, moment in enumerate([None, *(draw.uniform(0, seconds) for _ in range(args.cuts))]):
        complete, damaged, results = cut(root, options, moment, root / f"cut-{number}.log")
        if isinstance(results, str):
            verdict = results
        else:
            different = sorted(name for name in expected.keys() | results.keys() if expected.get(name) != results.get(name))
            verdict = f"DIFFERENT: {different}" if different else "equal bit for bit"
        wrong += bool(damaged) or verdict != "equal bit for bit"
        when = "after the end" if moment is None else f"after {moment:.1f} of {seconds:.1f} s"
        sys.stdout.write(f"cut {when}: {complete} artifacts complete, damaged: {damaged or 'none'}; repeated: {verdict}\n")
        sys.stdout.flush()
    sys.stdout.write(f"{args.cuts + 1 - wrong} of {args.cuts + 1} cuts: whole, and equal bit for bit\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
