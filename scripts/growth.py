"""Measure how seconds, memory and disk of each stage grow with the rows; draw it, and fit a plain model.

    python scripts/growth.py run growth                                   # 10^4, 10^5 and 10^6 rows, all stages
    python scripts/growth.py run growth --rows 10000000 --stages inspect  # one size and one stage
    python scripts/growth.py run growth --rows 100000 --processes 1 2 4 --stages score-rewards train
    python scripts/growth.py run growth --rows 10000 --leak 3 --stages inspect    # three planted prompts must be found
    python scripts/growth.py figure growth                                # growth.png, growth.svg, growth.md
    python scripts/growth.py model growth --rows 100000000 --cores 64     # by growth_model.py

The rows are those of made_up_rows.py. Every stage is a process of its own: ``inspect`` in an empty folder; ``score-rewards`` in
an empty folder, and the others in its folder, each with what the stages before it built. Every one adds a line to growth.jsonl:
seconds; seconds of all processors; seconds until the first training step was done; the peak memory of the largest process, with
the pages of mapped files and without; bytes written, temporary files included; bytes and number of the files that are there
then; the seconds of each artifact. What is measured already is passed over. A stage that was stopped, or failed, begins anew.
Ends with exit code 1 where a stage fails or a planted prompt is not found.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from growth_model import GB, Record, predicted
from made_up_rows import Made, add_options

LINE = [
    "task=local", "reward=column", "values=constant", "model=tiny", "task.max_prompt_tokens=64", "task.max_response_tokens=64",
    "task.limit_eval=256", "updates=20", "eval_every=20", "reference.updates=20", "reference.eval_every=20", "threads=1",
]  # fmt: skip
PIPELINE = ("score-rewards", "train-reference", "precompute-values", "train", "evaluate")
STAGES = ("inspect", *PIPELINE)
POLL = 0.05  # seconds


def below(process: int) -> Iterator[int]:
    """A process and those that it started."""
    yield process
    with suppress(OSError):
        for child in Path(f"/proc/{process}/task/{process}/children").read_text().split():
            yield from below(int(child))


def anonymous(process: int) -> int:
    """The bytes in memory of a process that no file holds."""
    with suppress(OSError, StopIteration):
        status = Path(f"/proc/{process}/status").read_text().splitlines()
        return 1024 * int(next(line for line in status if line.startswith("RssAnon")).split()[1])
    return 0


def measured(words: Sequence[str], folder: Path) -> Record:
    """Run a command to its end; returns its exit code, seconds and bytes."""
    first, own = None, 0
    with (folder / "log.txt").open("ab") as log:
        begun = time.monotonic()
        process = subprocess.Popen([sys.executable, "-m", "aloll_cli", *words], cwd=folder, stdout=log, stderr=log)
        try:
            while not (ended := os.wait4(process.pid, os.WNOHANG))[0]:
                own = max([own, *map(anonymous, below(process.pid))])
                if first is None and any(file.stat().st_size for file in folder.glob("outputs/*/policy/*/metrics.jsonl")):
                    first = round(time.monotonic() - begun, 2)
                time.sleep(POLL)
        except BaseException:
            process.terminate()
            process.wait()
            raise
        seconds, usage, process.returncode = time.monotonic() - begun, ended[2], os.waitstatus_to_exitcode(ended[1])
    found = {"exit": process.returncode, "seconds": round(seconds, 2), "cpu": round(usage.ru_utime + usage.ru_stime, 2)}
    found |= {"first_step": first} if words[0] == "train" else {}
    return found | {"memory": usage.ru_maxrss * 1024, "own_memory": own, "written": usage.ru_oublock * 512}


def left(folder: Path, before: set[str]) -> Record:
    """Bytes and number of the files that are there, and the seconds of the artifacts that were not there before."""
    outputs = folder / "outputs"
    files = [file for file in outputs.rglob("*") if file.is_file()]
    built = {str(file.parent.relative_to(outputs)): file for file in files if file.name == "build.json"}
    seconds = {name: json.loads(file.read_text())["seconds"] for name, file in built.items() if name not in before}
    return {"disk": sum(file.stat().st_size for file in files), "files": len(files), "artifacts": seconds}


def leaks(folder: Path) -> int:
    """Responses of test that were left out because train has their prompt."""
    (file,) = folder.glob("outputs/*/data/*/counts.json")
    return sum(count for what, count in json.loads(file.read_text())["test"].items() if "prompt is in train" in what)


def records(root: Path) -> list[Record]:
    """The measurements of stages that ended well."""
    file = root / "growth.jsonl"
    lines = map(json.loads, file.read_text().splitlines()) if file.exists() else []
    return [line for line in lines if line["exit"] == 0]


def run_case(root: Path, made: Made, processes: int, stages: Sequence[str], more: list[str]) -> bool:
    """Measure what is not measured yet of some stages and of those before them; returns whether all ended well."""
    case = {**asdict(made), "processes": processes, "more": more}
    name = "-".join(str(value) for value in asdict(made).values())
    rows = root / "rows" / name
    made.write(rows)
    words = [*LINE, f"task.path={rows}", f"processes={processes}", *["task.on_bad_row=skip"] * bool(made.leak), *more]
    last = max((place for place, stage in enumerate(PIPELINE) if stage in stages), default=-1)
    for stage in STAGES:
        done = [one for one in records(root) if one["case"] == case and (one["stage"] == "inspect") == (stage == "inspect")]
        if stage not in (*stages, *PIPELINE[: last + 1]) or any(one["stage"] == stage for one in done):
            continue
        folder = root / "runs" / f"{name}-{processes}" / ("inspect" if stage == "inspect" else "pipeline")
        folder.mkdir(parents=True, exist_ok=True)
        before = {name for one in done for name in one["artifacts"]}
        for unfinished in {*folder.glob("outputs/*/*/*/")} - {folder / "outputs" / name for name in before}:
            shutil.rmtree(unfinished)
        found = {"stage": stage, "case": case, "when": time.strftime("%Y-%m-%d %H:%M")}
        found |= measured([stage, *words, "-q"], folder) | left(folder, before)
        found |= {"leaks": leaks(folder)} if made.leak and found["exit"] == 0 else {}
        with (root / "growth.jsonl").open("a") as stream:
            stream.write(json.dumps(found) + "\n")
        say(f"{made.rows:,} rows, {processes} processes, {stage}: {found['seconds']} s, {found['memory'] / GB:.2f} GB")
        if found["exit"] or found.get("leaks", made.leak) != made.leak:
            say(f"exit code {found['exit']}, leaks found: {found.get('leaks')}; see {folder / 'log.txt'}")
            return False
    return True


def of_one_process(root: Path, clock: str) -> dict[str, list[Record]]:
    """The measurements of one process by stage, in order of the rows: the last one of each size, in seconds of a clock."""
    found: dict[str, dict[int, Record]] = {stage: {} for stage in STAGES}
    for one in records(root):
        if one["case"]["processes"] == 1:
            share = one["cpu"] / one["seconds"] if clock == "processor" else 1.0
            seconds = {name: one[name] * share for name in ("seconds", "first_step") if one.get(name)}
            made = {name: taken * share for name, taken in one["artifacts"].items()}
            found[one["stage"]][one["case"]["rows"]] = {**one, **seconds, "artifacts": made}
    return {stage: [ones[rows] for rows in sorted(ones)] for stage, ones in found.items() if ones}


def machine() -> str:
    """Where this runs."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), os.uname().machine)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GB
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "tokenizers", "pyarrow"))
    return f"{cpu}, {os.cpu_count()} cores, {memory:.0f} GB; Python {sys.version.split()[0]}, {versions}"


def table(root: Path) -> list[str]:
    """All measurements as a Markdown table."""
    dates = sorted(one["when"] for one in records(root))
    lines = [machine() + f"; measured from {dates[0]} to {dates[-1]}", ""] if dates else []
    heads = (
        "stage", "rows", "processes", "seconds", "processor seconds", "until the first step", "peak memory, GB",
        "without mapped files", "written, GB", "files", "on disk, GB",
    )  # fmt: skip
    lines += [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    last = {(STAGES.index(one["stage"]), one["case"]["rows"], one["case"]["processes"]): one for one in records(root)}
    for (stage, rows, processes), one in sorted(last.items()):
        step = f"{one['first_step']:,.1f}" if one.get("first_step") else ""
        cells = [STAGES[stage], f"{rows:,}", str(processes), f"{one['seconds']:,.1f}", f"{one['cpu']:,.1f}", step]
        cells += [f"{one[key] / GB:.2f}" for key in ("memory", "own_memory", "written")]
        lines.append("| " + " | ".join([*cells, f"{one['files']:,}", f"{one['disk'] / GB:.2f}"]) + " |")
    return lines


def draw(root: Path, clock: str) -> None:
    """Write growth.png and growth.svg: seconds and memory by rows, and seconds by processes; and growth.md."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4), layout="constrained")
    axes = figure.subplots(1, 3)
    for stage, ones in of_one_process(root, clock).items():
        rows = [one["case"]["rows"] for one in ones]
        (line,) = axes[0].plot(rows, [one["seconds"] for one in ones], "o-", label=stage)
        axes[1].plot(rows, [one["memory"] / GB for one in ones], "o-", label=stage)
        if stage == "train":
            first = [one.get("first_step", math.nan) for one in ones]
            axes[0].plot(rows, first, "--", color=line.get_color(), label="train, to the first step")
    shared: dict[str, dict[int, float]] = defaultdict(dict)
    for one in records(root):
        shared[f"{one['stage']}, {one['case']['rows']:,} rows"][one["case"]["processes"]] = one["seconds"]
    for name, by_count in shared.items():
        if len(by_count) > 1:
            axes[2].plot(*zip(*sorted(by_count.items()), strict=True), "o-", label=name)
    seconds = "seconds of one processor" if clock == "processor" else "seconds"
    scales = (("rows", seconds, "log"), ("rows", "peak memory (GB)", "log"), ("processes", "seconds", "linear"))
    for axis, (x, y, scale) in zip(axes, scales, strict=True):
        axis.set(xlabel=x, ylabel=y, xscale=scale, yscale=scale)
        axis.grid(alpha=0.3)
        if axis.lines and axis is not axes[1]:
            axis.legend(fontsize="small")
    axes[2].set_ylim(bottom=0)
    figure.savefig(root / "growth.png", dpi=150)
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "growth"}):
        figure.savefig(root / "growth.svg", metadata={"Date": None})
    (root / "growth.md").write_text("\n".join(table(root)) + "\n")


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    acts = parser.add_subparsers(dest="act", required=True)
    run, figure, model = (acts.add_parser(name) for name in ("run", "figure", "model"))
    for act in (run, figure, model):
        act.add_argument("folder", type=Path)
    run.add_argument("--rows", type=int, nargs="+", default=[10**4, 10**5, 10**6])
    run.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    run.add_argument("--processes", type=int, nargs="+", default=[1])
    run.add_argument("--options", nargs="+", default=[], metavar="KEY=VALUE", help="further options of aloll")
    add_options(run)
    for act in (figure, model):
        act.add_argument(
            "--clock", choices=("wall", "processor"), default="wall", help="processor: for a machine that others use, too"
        )
    model.add_argument("--rows", type=int, default=10**8)
    model.add_argument("--cores", type=int, default=64)
    model.add_argument("--memory", type=float, default=256, metavar="GB", help="of the machine (default 256)")
    model.add_argument("--files", type=int, default=10**6, help="that a file system is glad to hold (default 1,000,000)")
    given = parser.parse_args()
    root = given.folder.resolve()
    root.mkdir(parents=True, exist_ok=True)
    if given.act == "figure":
        draw(root, given.clock)
    elif given.act == "model":
        found = of_one_process(root, given.clock)
        say("\n".join(predicted(found, given.rows, given.cores, given.memory, given.files)))
    else:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what is measured ends, too
        made = [Made(rows, given.format, given.shards, given.leak, given.held_out) for rows in given.rows]
        cases = [(one, processes) for one in made for processes in given.processes]
        ended = [run_case(root, one, processes, given.stages, given.options) for one, processes in cases]
        sys.exit(not all(ended))


if __name__ == "__main__":
    main()
