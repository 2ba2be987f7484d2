"""Kill `aloll run` at uniformly random moments, one and several processes and commands at once; then flip single bits.

    python scripts/kills.py                         # 200 kills, 100 flips
    python scripts/kills.py --kills 20 --flips 10 --seed 3
    python scripts/kills.py --folder kills          # can be stopped, and goes on when it is repeated

A kill (SIGKILL) comes at a moment that is uniform over the length of an uninterrupted command. It hits all of a command's
processes, or the command alone, or one of its workers, as the lack of memory does. The command is repeated until it ends by
itself; then every bit must be that of an uninterrupted run with as many processes, and no process may be left.

A flip changes one bit of a file, in a finished run or in what a kill left. The repeated command must name the damage, or end
with the bits of an uninterrupted run; where it names damage, `aloll verify repair=true` and the command again must end with
these bits. Ends with exit code 1 where one of all this does not hold.

The commands are forks of this process, which has loaded the libraries, so that kills fall into the stages; those of every
seventh run are started as a user starts them.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import forking
from torture import SMALL, contents, start, where_it_died

SHAPES = ((1, 1), (2, 1), (4, 1), (1, 2), (1, 4), (2, 2))  # processes of a command, commands at once
REAL = 7  # one run of so many is not forked
LAST = 20.0  # seconds until workers whose command was killed have ended
AFTER_A_WORKER = 2  # exit code of a command that lost a worker
NO_RESULTS = ("log.txt", "build.json")


def differences(expected: dict[str, Any], folder: Path) -> list[str]:
    """The files of a run that are not as they should be."""
    found = contents(folder / "outputs")
    return sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))


def below(process: int) -> list[int]:
    """The processes that a process started, and theirs."""
    with suppress(OSError):
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
        return [found for child in map(int, children) for found in (child, *below(child))]
    return []


def is_worker(process: int) -> bool:
    """Whether what a command started is one of its workers, not a watchdog."""
    with suppress(OSError):
        return b"-I\0-S\0-c" not in Path(f"/proc/{process}/cmdline").read_bytes()
    return False


def is_alive(process: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


@dataclass
class Line:
    """A command line and how it is run.

    Attributes:
        folder: where.
        processes: of one command.
        real: whether its processes are started anew instead of forked.
        log: a file for what it says.
    """

    folder: Path
    processes: int
    real: bool
    log: Path

    def start(self) -> Any:
        """Start it; returns what has pid, wait and returncode."""
        words = [*SMALL, f"processes={self.processes}"]
        if self.real:
            return start(self.folder, words, self.log)
        return forking.Command(self.folder, ["run", *words], self.log, self.log)


def hit(command: Any, draw: random.Random) -> tuple[str, list[int]]:
    """Kill all processes of a command, or it alone, or a worker; returns what was hit, and the processes there were."""
    found = below(command.pid)
    workers = [process for process in found if is_worker(process)]
    kind = draw.choice(["all", "command", "worker"]) if workers else "all"
    victims = {"all": [command.pid, *workers], "command": [command.pid], "worker": workers and [draw.choice(workers)]}[kind]
    for victim in victims:
        with suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
    return kind, found


def killed(line: Line, commands: int, seconds: float, draw: random.Random) -> tuple[list[str], int, list[int]]:
    """Run so many commands at once, each of which is hit at a random moment.

    Returns:
        what each kill hit and in which stage it fell, how many commands ended well, and the processes that were started.
    """
    moments = [draw.uniform(0, seconds) for _ in range(commands)]
    begun = time.monotonic()
    running = [line.start() for _ in range(commands)]
    kills, started, allowed = [], [], {}
    for moment, command in sorted(zip(moments, running, strict=True), key=lambda pair: pair[0]):
        try:
            command.wait(max(0.0, begun + moment - time.monotonic()))
        except subprocess.TimeoutExpired:
            kind, found = hit(command, draw)
            kills.append(f"{kind}, {where_it_died(line.folder) or 'between two artifacts'}")
            started += found
            allowed[command.pid] = (0, AFTER_A_WORKER, 1) if kind == "worker" else (-signal.SIGKILL,)
    codes = [command.wait(timeout=600) for command in running]
    wrong = [code for code, command in zip(codes, running, strict=True) if code not in allowed.get(command.pid, (0,))]
    if wrong:
        sys.exit(f"exit codes {codes}, see {line.log}")
    return kills, codes.count(0), started


def run(root: Path, number: int, expected: dict[int, Any], seconds: dict[int, float], seed: int, keep: Path) -> dict[str, Any]:
    """One run that is killed until it ends by itself; a copy of what its first kill left is kept in a folder."""
    draw = random.Random(f"{seed} {number}")
    processes, commands = SHAPES[number % len(SHAPES)]
    line = Line(root / f"run-{number}", processes, number % REAL == REAL - 1, root / f"run-{number}.log")
    shutil.rmtree(line.folder, ignore_errors=True)
    line.folder.mkdir()
    kills: list[str] = []
    started: list[int] = []
    ended = 0
    while not ended:
        length = seconds[processes] * max(1, commands / 2) + 5.0 * line.real
        found, ended, more = killed(line, commands, length, draw)
        kills += found
        started += more
        if processes == commands == 1 and not keep.exists() and [*line.folder.glob("outputs/*/*/*.partial/*")]:
            shutil.copytree(line.folder, keep)
    end = time.monotonic() + LAST
    while (alive := [process for process in started if is_alive(process)]) and time.monotonic() < end:
        time.sleep(0.1)
    wrong = differences(expected[processes], line.folder)
    shutil.rmtree(line.folder)
    if not wrong:
        line.log.unlink()
    return {
        "number": number, "processes": processes, "commands": commands, "real": line.real, "kills": kills, "different": wrong,
        "alive": alive,
    }  # fmt: skip


def noted(file: Path) -> list[Any]:
    """What was done before, one a line."""
    return [json.loads(row) for row in file.read_text().splitlines()] if file.exists() else []


def note(file: Path, done: dict[str, Any]) -> None:
    with file.open("a") as stream:
        stream.write(json.dumps(done) + "\n")


def uninterrupted(root: Path) -> tuple[dict[int, Any], dict[int, float]]:
    """Results and seconds of runs that nobody kills, by the number of processes."""
    expected, seconds = {}, {}
    for processes in sorted({processes for processes, _ in SHAPES}):
        line = Line(root / f"uninterrupted-{processes}", processes, False, root / "uninterrupted.log")
        times = root / f"uninterrupted-{processes}.seconds"
        if not times.exists():
            shutil.rmtree(line.folder, ignore_errors=True)
            line.folder.mkdir()
            begun = time.monotonic()
            if code := line.start().wait():
                sys.exit(f"the uninterrupted run ended with exit code {code}, see {line.log}")
            times.write_text(f"{time.monotonic() - begun:.1f}")
        seconds[processes] = float(times.read_text())
        expected[processes] = contents(line.folder / "outputs")
    sys.stdout.write(f"uninterrupted, seconds by processes: {seconds}\n")
    return expected, seconds


def torment(root: Path, args: argparse.Namespace, expected: dict[int, Any], seconds: dict[int, float]) -> int:
    """The kills; returns the number of runs that differ or leave processes."""
    file = root / "kills.jsonl"
    done = noted(file)
    while sum(len(one["kills"]) for one in done) < args.kills:
        done.append(run(root, len(done), expected, seconds, args.seed, root / f"left-{len(done)}"))
        note(file, done[-1])
        one, total = done[-1], sum(len(one["kills"]) for one in done)
        verdict = f"DIFFERENT: {one['different']}, ALIVE: {one['alive']}" if one["different"] or one["alive"] else "equal"
        what = f"{one['processes']} processes, {one['commands']} commands{', real' * one['real']}"
        sys.stdout.write(f"run {one['number']}, {what}: {len(one['kills'])} kills, {verdict}; {total} kills\n")
        sys.stdout.flush()
    tally = Counter((one["processes"], one["commands"]) for one in done for _ in one["kills"])
    for (processes, commands), count in sorted(tally.items()):
        sys.stdout.write(f"{processes} processes, {commands} commands at once: {count} kills\n")
    for hits, count in sorted(Counter(kill for one in done for kill in one["kills"]).items()):
        sys.stdout.write(f"  {count} × {hits}\n")
    real = sum(len(one["kills"]) for one in done if one["real"])
    wrong = sum(bool(one["different"] or one["alive"]) for one in done)
    sys.stdout.write(f"{tally.total()} kills ({real} of processes that were started anew); ")
    sys.stdout.write(f"{len(done) - wrong} of {len(done)} runs equal bit for bit\n")
    return wrong


def flip(folder: Path, draw: random.Random) -> str:
    """Flip one bit of one file; returns its name."""
    files = [file for file in sorted((folder / "outputs").rglob("*")) if file.is_file() and file.stat().st_size]
    files = [file for file in files if file.name not in NO_RESULTS and ".locks" not in file.parts and "report" not in file.parts]
    file = draw.choice(files)
    content = bytearray(file.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    file.write_bytes(content)
    return str(file.relative_to(folder))


def flipped(root: Path, source: Path, expected: Any, draw: random.Random) -> tuple[str, str]:
    """Flip one bit in a copy of a folder and repeat the command; returns the file and what came out."""
    line = Line(root / "flipped", 1, False, root / "flips.log")
    shutil.rmtree(line.folder, ignore_errors=True)
    shutil.copytree(source, line.folder)
    name = flip(line.folder, draw)
    kind = "unfinished" if ".partial" in name else "finished"
    code = line.start().wait()
    wrong = differences(expected, line.folder)
    verdict = "went on to the same bits"
    if code == 2 or (code == 0 and kind == "finished" and set(wrong) <= {name.removeprefix("outputs/")}):
        verdict = "named, repaired, built again" if code else "not needed; repaired"
        code = forking.Command(line.folder, ["verify", "repair=true", "threads=1"], line.log, line.log).wait()
        code = code or line.start().wait()
        wrong = differences(expected, line.folder)
    return name, f"IN USE: exit code {code}: {wrong[:3]}" if wrong or code else f"{kind}: {verdict}"


def flips(root: Path, args: argparse.Namespace, expected: Any) -> int:
    """The flips, in turn in a finished run and in what kills left; returns how many of them were in use."""
    left, file = sorted(root.glob("left-*")), root / "flips.jsonl"
    done = noted(file)
    for number in range(len(done), args.flips):
        source = left[(number // 2) % len(left)] if number % 2 and left else root / "uninterrupted-1"
        name, verdict = flipped(root, source, expected, random.Random(f"{args.seed} {number} of flips"))
        done.append({"number": number, "file": name, "verdict": verdict})
        note(file, done[-1])
        sys.stdout.write(f"flip {number}, {name}: {verdict}\n")
        sys.stdout.flush()
    tally = Counter(one["verdict"] for one in done)
    for verdict, count in sorted(tally.items()):
        sys.stdout.write(f"{count} × {verdict}\n")
    bad = sum(count for verdict, count in tally.items() if verdict.startswith("IN USE"))
    sys.stdout.write(f"{len(done) - bad} of {len(done)} flips never in use\n")
    return bad


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--flips", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="of moments and bits")
    parser.add_argument("--folder", type=Path, help="where to work and to go on; default: a temporary folder")
    args = parser.parse_args()
    root = args.folder or Path(tempfile.mkdtemp(prefix="aloll-kills-"))
    root.mkdir(parents=True, exist_ok=True)
    forking.load()
    expected, seconds = uninterrupted(root.resolve())
    different = torment(root.resolve(), args, expected, seconds)
    return 1 if different + flips(root.resolve(), args, expected[1]) else 0


if __name__ == "__main__":
    sys.exit(main())
