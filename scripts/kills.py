"""Kill `aloll run` at uniformly random moments, one and several processes and commands at once; then flip single bits.

    python scripts/kills.py                         # 200 kills, 100 flips
    python scripts/kills.py --kills 20 --flips 10 --seed 3

A command with its processes is killed (SIGKILL) at a moment that is uniform over the length of an uninterrupted one, and
repeated until it ends by itself. Then every bit must be that of an uninterrupted run with as many processes.

A flip changes one bit of a file, in a finished run or in what a kill left. The repeated command must name the damage, or end
with the bits of an uninterrupted run; where it names damage, `aloll verify repair=true` and the command again must end with
these bits. Ends with exit code 1 where one of all this does not hold.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from torture import SMALL, contents, start

SHAPES = ((1, 1), (2, 1), (4, 1), (1, 2), (1, 4), (2, 2))  # processes of a command, commands at once
NO_RESULTS = ("log.txt",)


def differences(expected: dict[str, Any], folder: Path) -> list[str]:
    """The files of a run that are not as they should be."""
    found = contents(folder / "outputs")
    return sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))


def killed(folder: Path, options: list[str], commands: int, seconds: float, draw: random.Random, log: Path) -> tuple[int, int]:
    """Run so many commands at once, each of which is killed at a random moment; returns the kills, and how many ended well."""
    moments = [draw.uniform(0, seconds) for _ in range(commands)]
    begun = time.monotonic()
    running = [start(folder, options, log) for _ in range(commands)]
    kills = 0
    for moment, process in sorted(zip(moments, running, strict=True), key=lambda pair: pair[0]):
        try:
            process.wait(max(0.0, begun + moment - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
    codes = [process.returncode for process in running]
    if any(code not in (0, -signal.SIGKILL) for code in codes):
        sys.exit(f"exit codes {codes}, see {log}")
    return kills, codes.count(0)


def torment(root: Path, args: argparse.Namespace, draw: random.Random) -> tuple[int, list[Path]]:
    """The kills; returns the number of runs that differ, and folders that were left by some of the kills."""
    expected, seconds = {}, {}
    for processes in {processes for processes, _ in SHAPES}:
        folder = root / f"uninterrupted-{processes}"
        folder.mkdir()
        begun = time.monotonic()
        if code := start(folder, [*SMALL, f"processes={processes}"], root / "uninterrupted.log").wait():
            sys.exit(f"the uninterrupted run ended with exit code {code}, see {root / 'uninterrupted.log'}")
        seconds[processes] = time.monotonic() - begun
        expected[processes] = contents(folder / "outputs")
    tally: Counter[tuple[int, int]] = Counter()
    different = number = 0
    left: list[Path] = []
    while tally.total() < args.kills:
        processes, commands = SHAPES[number % len(SHAPES)]
        folder, log = root / f"run-{number}", root / f"run-{number}.log"
        folder.mkdir()
        ended = 0
        while not ended:
            length = seconds[processes] * (1 if commands == 1 else commands / 2)
            kills, ended = killed(folder, [*SMALL, f"processes={processes}"], commands, length, draw, log)
            tally[processes, commands] += kills
            if processes == 1 and [*folder.glob("outputs/*/*/*.partial/*")] and len(left) < args.flips // 2:
                left.append(root / f"left-{len(left)}")
                shutil.copytree(folder, left[-1])
        wrong = differences(expected[processes], folder)
        different += bool(wrong)
        if wrong:
            sys.stdout.write(f"run {number}, {processes} processes, {commands} commands: DIFFERENT: {wrong}\n")
        shutil.rmtree(folder)
        number += 1
    for (processes, commands), count in sorted(tally.items()):
        sys.stdout.write(f"{processes} processes, {commands} commands at once: {count} kills\n")
    sys.stdout.write(f"{tally.total()} kills; {number - different} of {number} runs equal bit for bit\n")
    sys.stdout.flush()
    return different, left


def flip(folder: Path, draw: random.Random) -> str:
    """Flip one bit of one file; returns its name."""
    files = [file for file in sorted((folder / "outputs").rglob("*")) if file.is_file() and file.stat().st_size]
    files = [file for file in files if file.name not in NO_RESULTS and ".locks" not in file.parts and "report" not in file.parts]
    file = draw.choice(files)
    content = bytearray(file.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    file.write_bytes(content)
    return str(file.relative_to(folder))


def flips(root: Path, left: list[Path], args: argparse.Namespace, draw: random.Random) -> int:
    """The flips; returns how many of them were in use."""
    expected = contents(root / "uninterrupted-1" / "outputs")
    tally: Counter[str] = Counter()
    log, folder = root / "flips.log", root / "flipped"
    options = [*SMALL, "processes=1"]
    for number in range(args.flips):
        source = left[(number // 2) % len(left)] if number % 2 and left else root / "uninterrupted-1"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(source, folder)
        name = flip(folder, draw)
        kind = "unfinished" if ".partial" in name else "finished"
        code = start(folder, options, log).wait()
        wrong = differences(expected, folder)
        if code == 0 and not wrong and kind == "unfinished":
            verdict = "built again"
        elif code == 2 or (code == 0 and set(wrong) <= {name.removeprefix("outputs/")}):
            verdict = "named, repaired, built again" if code else "not needed; repaired"
            verify = [sys.executable, "-m", "aloll_cli", "verify", "repair=true"]
            code = subprocess.run(verify, cwd=folder, capture_output=True, check=False).returncode
            code = code or start(folder, options, log).wait()
            wrong = differences(expected, folder)
        if wrong or code:
            verdict = f"IN USE: {name}: exit code {code}: {wrong[:3]}"
            sys.stdout.write(verdict + "\n")
        tally[f"{kind}: {verdict}"] += 1
    for verdict, count in sorted(tally.items()):
        sys.stdout.write(f"{count} × {verdict}\n")
    bad = sum(count for verdict, count in tally.items() if "IN USE" in verdict)
    sys.stdout.write(f"{args.flips - bad} of {args.flips} flips never in use\n")
    return bad


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--flips", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="of moments and bits")
    args = parser.parse_args()
    root, draw = Path(tempfile.mkdtemp(prefix="aloll-kills-")), random.Random(args.seed)
    different, left = torment(root, args, draw)
    return 1 if different + flips(root, left, args, draw) else 0


if __name__ == "__main__":
    sys.exit(main())
