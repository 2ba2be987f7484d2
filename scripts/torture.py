"""Kill `aloll run` at random moments, repeat the command until it is done, and compare every bit with an uninterrupted run.

    python scripts/torture.py                       # 10 pipelines, 40 kills
    python scripts/torture.py --pipelines 1 --kills 4 -- updates=12 …

Each kill is a SIGKILL, falls in a stage that was drawn before, and comes at a random moment after that stage's first progress;
every fifth one aims at the writing of a checkpoint. Where it really fell is read from what it left behind. Ends with exit code
1 where a bit differs.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

STAGES = ("score-rewards", "train-reference", "precompute-values", "train", "evaluate", "report")
STAGE_OF = {
    "data": "score-rewards", "tokenizer": "score-rewards", "examples": "score-rewards", "rewards": "score-rewards",
    "base-model": "train-reference", "reference": "train-reference", "values": "precompute-values",
    "reference-logps": "train", "policy": "train", "generations": "evaluate", "answer-logps": "evaluate",
    "likelihoods": "evaluate", "metrics": "evaluate",
}  # fmt: skip
EMBEDDED = (
    "updates=60", "eval_every=15", "eval_prompts=32", "checkpoint_every=10", "reference.updates=60", "reference.eval_every=15",
    "values.epochs=3", "resamples=1000", "threads=1",
)  # fmt: skip
SMALL = (
    "model.hidden_size=32", "model.layers=1", "model.heads=2", "model.intermediate_size=64", "model.vocab_size=400",
    "updates=12", "eval_every=4", "eval_prompts=8", "checkpoint_every=3", "batch_size=8",
    "reference.updates=12", "reference.eval_every=4", "reference.batch_size=8",
    "task.max_prompt_tokens=24", "task.max_response_tokens=12", "values.epochs=2", "resamples=100", "threads=1",
    "task.limit=400", "task.limit_eval=60",
)  # fmt: skip
# stages that have begun where the one is there, and ended where the other is
AFTER = {
    "evaluate": ("outputs/*/generations/*-test-*/manifest.json", "outputs/*/metrics/*/manifest.json"),
    "report": ("outputs/*/metrics/*/manifest.json", "outputs/*/report/*.html"),
}
BOOKKEEPING = (
    "recipe.json", "config.yaml", "log.txt", "build.json", ".recipe.json.tmp", ".config.yaml.tmp", ".build.json.tmp",
)  # fmt: skip
TIMES = ("log.txt", "build.json", "config.yaml", "manifest.json")  # files that hold times, or checksums of files that do
POLL = 0.005  # seconds; looking takes a core from what is looked at


def contents(root: Path) -> dict[str, Any]:
    """Every result under a folder by its relative path; time fields are left out, and pages, which show times."""
    found: dict[str, Any] = {}
    for file in sorted(root.rglob("*")):
        if not file.is_file() or {".locks", "report"} & set(file.parts) or file.name in TIMES:
            continue
        name = str(file.relative_to(root))
        found[name] = file.read_bytes()
        if file.name == "metrics.jsonl":
            with suppress(ValueError):  # a file that somebody damaged is compared as it is
                rows = [json.loads(line) for line in file.read_text().splitlines()]
                found[name] = [{key: value for key, value in row.items() if key != "seconds"} for row in rows]
    return found


@dataclass
class Tally:
    """Where kills fell, and where the next command went on."""

    stages: Counter[str] = field(default_factory=Counter)
    in_checkpoints: int = 0
    resumes: list[str] = field(default_factory=list)

    @property
    def kills(self) -> int:
        return self.stages.total()


def start(folder: Path, options: list[str], log: Path) -> subprocess.Popen[bytes]:
    """Start ``aloll run`` in a folder."""
    command = [sys.executable, "-c", "from aloll_cli.cli.main import main; main()", "run", *options]
    with log.open("ab") as stream:
        return subprocess.Popen(
            command, cwd=folder, env=os.environ | {"HF_HUB_OFFLINE": "1"}, stdout=stream, stderr=stream, start_new_session=True
        )


def matches(folder: Path, pattern: str) -> list[Path]:
    """What matches below a folder that is being written: what is renamed while it is read counts as not there."""
    with suppress(FileNotFoundError):
        return list(folder.glob(pattern))
    return []


def partials(folder: Path) -> list[Path]:
    """What is half-made, or being made."""
    return [path for path in matches(folder, "outputs/*/*/*.partial") if path.is_dir()]


def progress(folder: Path, stage: str) -> bool:
    """Whether a stage has begun to write more than its bookkeeping, and not ended."""
    if stage in AFTER:  # too few blocks to see one of their own
        begun, ended = (bool(matches(folder, pattern)) for pattern in AFTER[stage])
        return begun and not ended
    files = (file for partial in partials(folder) if stage_of(partial) == stage for file in matches(partial, "**/*"))
    return any(file.name not in BOOKKEEPING and file.is_file() for file in files)


def stage_of(partial: Path) -> str:
    """Whose work an artifact is; π_ref's own responses to validation prompts serve the values."""
    samples = partial.parent.name == "generations" and "-validation-" in partial.name
    return "precompute-values" if samples else STAGE_OF[partial.parent.name]


def checkpoint_write(folder: Path) -> list[Path]:
    """Checkpoints that are only half there."""
    return matches(folder, "outputs/*/*/*.partial/checkpoints/.update-*.tmp")


def where_it_died(folder: Path) -> str | None:
    """The stage that a kill fell in, by what it left; None between two artifacts."""
    left = partials(folder)
    if left:
        return stage_of(max(left, key=lambda path: path.stat().st_mtime))
    return "report" if progress(folder, "report") else None


def kill_in(folder: Path, options: list[str], stage: str, delay: float, in_checkpoint: bool, log: Path) -> str | None:
    """Start the command, wait for a stage's first progress and a while longer, and kill it.

    Returns:
        the stage in which it died, or None where it came to its end or died between two artifacts.
    """
    process = start(folder, options, log)
    began = None
    while process.poll() is None:
        began = began or (time.monotonic() if progress(folder, stage) else None)
        if began and (checkpoint_write(folder) if in_checkpoint else time.monotonic() - began >= delay):
            os.killpg(process.pid, signal.SIGKILL)
            break
        time.sleep(0 if in_checkpoint and began else POLL)
    return where_it_died(folder) if process.wait() == -signal.SIGKILL else None


def seconds_of(folder: Path, options: list[str], log: Path) -> dict[str, float]:
    """Run uninterrupted; returns for how long each stage showed progress."""
    process, lengths, last = start(folder, options, log), Counter[str](), time.monotonic()
    while process.poll() is None:
        now = time.monotonic()
        for stage in STAGES:
            if progress(folder, stage):
                lengths[stage] += now - last
        last = now
        time.sleep(0.01)
    if process.returncode:
        sys.exit(f"the uninterrupted run failed, see {log}")
    return {stage: float(lengths[stage]) for stage in STAGES}


def resumed(text: str) -> list[str]:
    """What a log says about going on where a kill had left something."""
    return re.findall(r"(?:resuming  \S+|resumed after step \d+ of \d+|\S.*: resumed with \d+ of \d+ blocks done)", text)


def main(arguments: list[str]) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pipelines", type=int, default=10, help="runs that are killed")
    parser.add_argument("--kills", type=int, default=40, help="of all pipelines together, at least")
    parser.add_argument("--seed", type=int, default=0, help="of stages and moments")
    parser.add_argument("--folder", type=Path, help="where to work; default: a temporary folder")
    parser.add_argument("options", nargs="*", default=EMBEDDED, help="of aloll run; default: a short embedded task")
    args = parser.parse_args(arguments)
    root = args.folder or Path(tempfile.mkdtemp(prefix="aloll-torture-"))
    root.mkdir(parents=True, exist_ok=True)
    options, rng, tally = list(args.options), random.Random(args.seed), Tally()
    uninterrupted = root / "uninterrupted"
    shutil.rmtree(uninterrupted, ignore_errors=True)
    uninterrupted.mkdir()
    lengths = seconds_of(uninterrupted, options, root / "uninterrupted.log")
    expected = contents(uninterrupted / "outputs")
    sys.stdout.write(f"uninterrupted: {len(expected)} files; {', '.join(f'{k} {v:.1f} s' for k, v in lengths.items())}\n")
    different = number = 0
    while number < args.pipelines or tally.kills < args.kills:  # a stage may have ended before its kill came
        folder = root / f"pipeline-{number}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        share = math.ceil((args.kills - tally.kills) / max(1, args.pipelines - number))
        torment(folder, options, share, rng, lengths, tally, root / f"pipeline-{number}.log")
        found = contents(folder / "outputs")
        wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        different += bool(wrong)
        sys.stdout.write(f"pipeline {number}: {len(found)} files, {'equal' if not wrong else f'DIFFERENT: {wrong}'}\n")
        sys.stdout.flush()
        number += 1
    sys.stdout.write(f"{tally.kills} kills, {tally.in_checkpoints} of them inside a checkpoint write: ")
    sys.stdout.write(", ".join(f"{stage} {tally.stages[stage]}" for stage in STAGES) + "\n")
    for line, count in sorted(Counter(tally.resumes).items()):
        sys.stdout.write(f"  {count} × {line}\n")
    sys.stdout.write(f"{number - different} of {number} pipelines equal bit for bit\n")
    return 1 if different else 0


def torment(
    folder: Path, options: list[str], kills: int, rng: random.Random, lengths: dict[str, float], tally: Tally, log: Path
) -> None:
    """Kill one pipeline so many times, in the order of its stages, and let it finish; those that were hit least go first."""
    rarest = sorted(STAGES, key=lambda stage: (tally.stages[stage], rng.random()))
    drawn = [rarest[i % len(rarest)] for i in range(kills)]
    for stage in sorted(drawn, key=STAGES.index):
        in_checkpoint = stage in ("train-reference", "train") and (tally.in_checkpoints == 0 or rng.random() < 0.2)
        died_in = kill_in(folder, options, stage, rng.uniform(0, 0.8 * lengths[stage]), in_checkpoint, log)
        if died_in is not None:
            tally.stages[died_in] += 1
            tally.in_checkpoints += bool(checkpoint_write(folder))
    if code := start(folder, options, log).wait():
        sys.exit(f"the repeated command failed with exit code {code}, see {log}")
    tally.resumes += resumed(log.read_text(errors="replace"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
