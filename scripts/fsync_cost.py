"""What waiting for the disk costs: seconds of `aloll run` with os.fsync and without, in turn.

    python scripts/fsync_cost.py                    # the embedded task, and one that writes much; 5 times each
    python scripts/fsync_cost.py --times 3

Each command is started anew in a new folder beside the current one. Within the durable runs the seconds in fsync are measured
one by one, too: a share that does not depend on how the machine was loaded at one time and another.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from torture import SMALL

# 300 steps of the tiny model each, evaluated five times
EMBEDDED = ("updates=300", "reference.updates=300", "eval_every=60", "reference.eval_every=60", "threads=1")
# a checkpoint after every step of a smaller model
WRITING = (*SMALL, "updates=300", "reference.updates=300", "eval_every=100", "reference.eval_every=100", "checkpoint_every=1")
DURABLE = """
import atexit, os, time
real, spent = os.fsync, []
def fsync(descriptor):
    begun = time.perf_counter()
    try:
        real(descriptor)
    finally:
        spent.append(time.perf_counter() - begun)
os.fsync = fsync
atexit.register(lambda: open("spent", "w").write(f"{len(spent)} {sum(spent)}"))
"""
WITHOUT = "import os; os.fsync = lambda descriptor: None"


def measured(folder: Path, options: tuple[str, ...], before: str) -> tuple[float, float]:
    """Seconds of a run by the clock, and of processors."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    os.sync()  # what an earlier run left to be written
    command = [sys.executable, "-c", f"{before}\nfrom aloll_cli.cli.main import main; main()", "run", *options]
    begun = time.monotonic()
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.monotonic() - begun
    if process.returncode:
        sys.exit(f"exit code {process.returncode}: {said.decode()[-2000:]}")
    return seconds, usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--only", choices=["embedded", "writing"])
    parser.add_argument("--folder", type=Path, default=Path(), help="where to work: its disk is measured")
    args = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="fsync-", dir=args.folder)).resolve()
    for name, options in {"embedded": EMBEDDED, "writing": WRITING}.items():
        if args.only not in (None, name):
            continue
        found: dict[str, list[tuple[float, float]]] = {DURABLE: [], WITHOUT: []}
        shares = []
        for number in range(args.times):
            for before in (DURABLE, WITHOUT) if number % 2 == 0 else (WITHOUT, DURABLE):
                found[before].append(measured(root / "run", options, before))
                seconds, busy = found[before][-1]
                line = f"{name}, {'durable' if before is DURABLE else 'without'}: {seconds:.2f} s, {busy:.2f} s of processors"
                if before is DURABLE:
                    calls, spent = (root / "run" / "spent").read_text().split()
                    shares.append(100 * float(spent) / seconds)
                    line += f", {calls} fsyncs in {float(spent):.2f} s: {shares[-1]:.2f} %"
                sys.stdout.write(f"{line}; load {os.getloadavg()[0]:.1f}\n")
                sys.stdout.flush()
        for place, what in enumerate(("by the clock", "of processors")):
            durable, without = (median(times[place] for times in found[before]) for before in (DURABLE, WITHOUT))
            change = 100 * (durable - without) / without
            sys.stdout.write(f"{name}, seconds {what}, medians: durable {durable:.2f}, without {without:.2f}: {change:+.2f} %\n")
        sys.stdout.write(f"{name}, share of seconds in fsync, median: {median(shares):.2f} %\n")
    shutil.rmtree(root)


if __name__ == "__main__":
    main()
