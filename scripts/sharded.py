"""Compare strategy=fsdp with ddp and with one process: losses, kills, the policy, and the memory of a process.

    python scripts/sharded.py --folder sharded            # full and LoRA, 1, 2 and 4 processes; some minutes on two cores
    python scripts/sharded.py --folder sharded --memory   # the peak memory of a process at 50 M parameters

Losses, gradient norms and weights must be equal to 1e-5. A run of two processes that is killed goes on with four, and one of
four with one. Ends with exit code 1 where one of all this does not hold. What is there already is not computed again.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import forking
from safetensors.torch import load_file

CLOSE = 1e-5
LINE = [
    "model.hidden_size=64", "model.layers=2", "model.heads=2", "model.intermediate_size=128", "model.vocab_size=400",
    "updates=20", "eval_every=10", "eval_prompts=8", "checkpoint_every=5", "batch_size=10", "micro_batch_size=2",
    "optimizer.lr=3e-3", "optimizer.warmup_updates=0", "optimizer.eps=1e-3",  # or AdamW would take rounding for a gradient
    "reference.updates=20", "reference.eval_every=10",
    "reference.batch_size=8", "task.max_prompt_tokens=24", "task.max_response_tokens=12", "values=constant", "values.value=0.4",
    "threads=1",
]  # fmt: skip
KINDS = {"full": ["model.tie_embeddings=false"], "lora": ["adapter=lora", "adapter.r=4"], "tied": ["variant=nll"]}
WAYS = {
    "one process": ["processes=1"], "ddp on 2": ["processes=2"],
    "fsdp on 2": ["processes=2", "strategy=fsdp"], "fsdp on 4": ["processes=4", "strategy=fsdp"],
}  # fmt: skip
LARGE = [
    "model.hidden_size=512", "model.layers=16", "model.heads=8", "model.intermediate_size=1376", "model.vocab_size=8000",
    "updates=2", "eval_every=2", "eval_prompts=2", "checkpoint_every=2", "batch_size=4", "micro_batch_size=1",
    "variant=nll", "reference=trained", "reference.updates=1", "reference.eval_every=1", "reference.batch_size=4",
    "task.max_prompt_tokens=8", "task.max_response_tokens=4", "values=constant", "values.value=0.4", "threads=1",
]  # fmt: skip


def train(folder: Path, words: list[str], until: Callable[[], bool] = lambda: False) -> int:
    """``aloll train`` in a fork; killed with all its processes once ``until`` says so. Returns the exit code."""
    command = forking.Command(folder, ["train", *words, "-q"], folder / "out.txt", folder / "err.txt")
    while (code := command.poll()) is None:
        if until():
            for worker in below(command.pid):
                with suppress(ProcessLookupError):
                    os.kill(worker, signal.SIGKILL)
        time.sleep(0.02)
    return code


def below(process: int) -> list[int]:
    """The processes that a process started."""
    with suppress(OSError):
        return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    return []


def policy(folder: Path) -> Path:
    (found,) = folder.glob("outputs/reviews/policy/*-*")
    return found


def records(folder: Path, name: str = "metrics.jsonl") -> list[dict[str, float]]:
    return [json.loads(line) for line in (policy(folder) / name).read_text().splitlines()]


def apart(folder: Path, other: Path) -> dict[str, float]:
    """The largest differences of two runs: of losses and gradient norms relative, of weights absolute."""
    found = {}
    for key in ("loss", "grad_norm"):
        pairs = zip(records(folder), records(other), strict=True)
        found[key] = max(abs(mine[key] - theirs[key]) / abs(theirs[key]) for mine, theirs in pairs)
    scores = zip(records(folder, "evaluations.jsonl"), records(other, "evaluations.jsonl"), strict=True)
    found["score"] = max(abs(mine["score"] - theirs["score"]) for mine, theirs in scores)
    mine, theirs = (load_file(next((policy(place) / "policy").glob("*.safetensors"))) for place in (folder, other))
    if mine.keys() != theirs.keys():
        raise SystemExit(f"policies of {folder} and {other} have other weights")
    found["weights"] = max(float((mine[name] - theirs[name]).abs().max()) for name in theirs)
    return found


def begun(root: Path, kind: str, words: list[str]) -> Path:
    """A folder with all that a policy needs, made once by one process."""
    folder = root / f"{kind} upstream"
    if not (folder / "done").exists():
        folder.mkdir(parents=True, exist_ok=True)
        if train(folder, [*words, "processes=1"], lambda: any(folder.glob("outputs/reviews/policy/*.partial"))) not in (0, -9):
            raise SystemExit((folder / "err.txt").read_text())
        (folder / "done").touch()
    return folder


def copied(root: Path, kind: str, way: str, words: list[str]) -> Path:
    """A folder of its own that only lacks the policy."""
    folder, upstream = root / f"{kind} {way}", begun(root, kind, words)
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(upstream, folder)
    shutil.rmtree(folder / "outputs" / "reviews" / "policy")
    return folder


def killed_and_resumed(root: Path, kind: str, first: list[str], then: list[str]) -> Path:
    """A run that is killed after its second checkpoint, and goes on with another number of processes."""
    words = [*LINE, *KINDS[kind]]
    folder = copied(root, kind, f"killed, {' '.join(first)}, then {' '.join(then)}", words)
    code = train(folder, [*words, *first], lambda: any(folder.glob("outputs/reviews/policy/*.partial/checkpoints/update-*10")))
    if code == 0 or train(folder, [*words, *then]) != 0:
        raise SystemExit(f"{folder}: exit code {code} where it was killed; {(folder / 'err.txt').read_text()}")
    if "resumed after step 10 of 20" not in (policy(folder) / "log.txt").read_text():
        raise SystemExit(f"{folder}: did not go on after step 10")
    return folder


def compare(root: Path) -> bool:
    """Whether all ways of training give what one process gives."""
    forking.load()
    good = True
    for kind, options in KINDS.items():
        words, one = [*LINE, *options], root / f"{kind} one process"
        runs = {way: root / f"{kind} {way}" for way in WAYS}
        for way, more in WAYS.items():
            if not [*runs[way].glob("outputs/reviews/policy/*/manifest.json")]:
                folder = copied(root, kind, way, words)
                if train(folder, [*words, *more]) != 0:
                    raise SystemExit((folder / "err.txt").read_text())
        on_2, on_4 = WAYS["fsdp on 2"], WAYS["fsdp on 4"]
        runs["fsdp killed on 2, then on 4"] = killed_and_resumed(root, kind, on_2, on_4)
        runs["fsdp killed on 4, then one process"] = killed_and_resumed(root, kind, on_4, ["processes=1"])
        runs["ddp killed on 2, then fsdp on 4"] = killed_and_resumed(root, kind, WAYS["ddp on 2"], on_4)
        for way, folder in runs.items():
            found = apart(folder, one)
            good &= max(found.values()) < CLOSE
            sys.stdout.write(f"{kind:5} {way:36} " + "  ".join(f"{key} {off:.1e}" for key, off in found.items()) + "\n")
            opened = "" if "adapter=lora" in options else of_transformers(policy(folder) / "policy")
            sys.stdout.write(f"      {opened}\n" if opened else "")
    return good


def of_transformers(folder: Path) -> str:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder)
    return f"opens in transformers: {type(model).__name__}, {sum(weight.numel() for weight in model.parameters()):,} parameters"


def peaks(folder: Path, words: list[str], count: int) -> list[int]:
    """The peak memory of each of ``count`` processes that train, in MiB (VmHWM)."""
    command = [sys.executable, "-c", "from aloll_cli.cli.main import main; main()", "train", *words, "-q"]
    found: dict[int, int] = {}
    with (folder / "err.txt").open("wb") as said:
        process = subprocess.Popen(command, cwd=folder, stderr=said)
        while process.poll() is None:
            for worker in [process.pid, *below(process.pid)]:
                with suppress(OSError, StopIteration):
                    status = Path(f"/proc/{worker}/status").read_text().splitlines()
                    line = next(line for line in status if line.startswith("VmHWM"))
                    found[worker] = int(line.split()[1]) // 1024
            time.sleep(0.05)
    if process.returncode:
        raise SystemExit((folder / "err.txt").read_text())
    return sorted(found.values())[-count:]  # parent and watchdog load no torch


def measure(root: Path) -> None:
    """Print the peak memory of processes that train a model of 50 M parameters, and a tiny one."""
    forking.load()
    small = [word for word in LARGE if not word.startswith("model.")]
    for kind, words in (("large", LARGE), ("tiny", small)):
        for way, more in WAYS.items():
            folder = copied(root, kind, way, words)
            every = peaks(folder, [*words, *more], int(more[0].partition("=")[2]))
            log = (policy(folder) / "log.txt").read_text()
            size = log.split("trainable parameters: ")[1].split(" ")[0]
            sys.stdout.write(f"{size} parameters, {way}: {every} MiB\n")
            sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--memory", action="store_true")
    given = parser.parse_args()
    root = given.folder.resolve()
    if given.memory:
        measure(root)
    elif not compare(root):
        raise SystemExit(f"some differ by {CLOSE:g} or more")


if __name__ == "__main__":
    main()
