"""What only a GPU can show: ratios that start at 1 in 16 bits, resuming to the bit and what that costs, batches of responses.

    python scripts/check_gpu.py FOLDER              # a model of transformers, such as SmolLM2-135M-Instruct
    python scripts/check_gpu.py --rehearse          # the same commands on a CPU, with a random model of two layers

Runs ``aloll train`` and bench_generation.py in a temporary folder and prints a table for each check; the exit code is 1 if one of
them fails.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file

ALOLL = [sys.executable, "-m", "aloll_cli"]
GENERATION = [sys.executable, str(Path(__file__).with_name("bench_generation.py")), "--batching"]
TASK = ["task=reviews", "model=pretrained", "reference=pretrained", "values=constant", "variant=seq", "eval_prompts=8"]
CHOICES = {
    "dtype": ("float32", "bfloat16"),
    "training": ("full", "lora", "nf4"),
    "head": ("full", "chunked"),
    "attn": ("eager", "sdpa"),
}
TRAINING = {"full": [], "lora": ["adapter=lora"], "nf4": ["adapter=lora", "model.quantization=nf4"]}
CHECK = re.compile(r"reproduce the stored reference log-probs: median .* = (\S+),|reproduces the reference .* = (\S+)\)")
LIMIT = {"float32": 1e-4, "bfloat16": 0.01}


def trained(folder: Path, options: list[str]) -> subprocess.CompletedProcess[str]:
    """Run ``aloll train`` to its end, whatever that is."""
    return subprocess.run([*ALOLL, "train", *options, f"output_dir={folder}"], capture_output=True, text=True, check=False)


def starts(model: list[str], place: Path, choices: dict[str, tuple[str, ...]]) -> Iterator[tuple[str, bool]]:
    """For each combination of options the |ln ρ|/√T with which training starts, and whether it is small enough."""
    for dtype, training, head, attn in itertools.product(*choices.values()):
        options = [f"model.dtype={dtype}", *TRAINING[training], f"model.head={head}", f"attn={attn}", "updates=1"]
        done = trained(place / f"{dtype}-{training}-{head}-{attn}", [*TASK, *model, *options])
        found = CHECK.search(done.stderr)
        figure = float(found[1] or found[2]) if found else float("nan")
        is_fine = done.returncode == 0 and figure <= LIMIT[dtype]
        last = "" if done.returncode == 0 else f"  exit code {done.returncode}: {done.stderr.strip().splitlines()[-2:]}"
        yield f"{dtype:9} {training:5} head={head:8} attn={attn:6} {figure:.1e}{last}", is_fine


def killed(folder: Path, options: list[str]) -> None:
    """Train until the first checkpoint is there, and kill the process."""
    process = subprocess.Popen([*ALOLL, "train", *options, f"output_dir={folder}"], stderr=subprocess.DEVNULL)
    while process.poll() is None and not list(folder.glob("*/policy/*.partial/checkpoints/update-*")):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()


def largest_difference(one: Path, other: Path) -> float:
    """Of the weights of the policies in two output folders."""
    (first,), (second,) = (list(folder.glob("*/policy/*/policy/*.safetensors")) for folder in (one, other))
    mine, theirs = load_file(first), load_file(second)
    return max(float((mine[name].double() - theirs[name].double()).abs().max()) for name in mine)


def seconds(folder: Path) -> float:
    """The median time of a training step."""
    (file,) = folder.glob("*/policy/*/metrics.jsonl")
    return statistics.median(json.loads(line)["seconds"] for line in file.read_text().splitlines()[1:])


def resumes(model: list[str], place: Path, updates: int) -> Iterator[tuple[str, bool]]:
    """Whether a killed run is bitwise equal, with ``deterministic`` and without, and how long a step takes."""
    for dtype, training in itertools.product(CHOICES["dtype"], ("full", "lora")):
        for deterministic in ("true", "false"):
            options = [
                *TASK, *model, f"model.dtype={dtype}", *TRAINING[training], f"deterministic={deterministic}",
                f"updates={updates}", f"checkpoint_every={updates // 3}", f"eval_every={updates}",
            ]  # fmt: skip
            whole, cut = (place / f"{dtype}-{training}-{deterministic}-{name}" for name in ("whole", "cut"))
            first = trained(whole, options)
            killed(cut, options)
            second = trained(cut, options)
            label = f"{dtype:9} {training:5} deterministic={deterministic:5}"
            if first.returncode or second.returncode:
                yield f"{label} {(first.stderr + second.stderr).strip().splitlines()[-2:]}", False
                continue
            off = largest_difference(whole, cut)
            resumed = "resumed after step" in second.stderr
            figures = f"largest difference of weights {off:.1e}, {seconds(whole):.3f} s per step"
            yield f"{label} {figures}{'' if resumed else ', NOT RESUMED'}", resumed and (off == 0 or deterministic == "false")


def batches(options: list[str], file: Path) -> Iterator[tuple[str, bool]]:
    """The seconds of padded and of continuous batches, and whether their responses are the same, near ties apart."""
    done = subprocess.run([*GENERATION, *options, f"--json={file}"], capture_output=True, text=True, check=False)
    if not file.exists():
        yield f"exit code {done.returncode}: {done.stderr.strip().splitlines()[-2:]}", False
        return
    figures = json.loads(file.read_text())
    each = ", ".join(f"{name} {row['median']:.2f} s" for name, row in figures["ways"].items())
    lengths, texts = figures["lengths"], figures["texts"]
    yield (
        (
            f"{each}; responses of {lengths['mean']:.0f} tokens in the mean, {lengths['limit']} at most; {texts['different']} of "
            f"{texts['compared']} differ, from a gap of {texts['widest_gap']:.1e} between the two likeliest tokens on"
        ),
        done.returncode == 0,
    )


def tiny_model(folder: Path) -> Path:
    """A random Llama of two layers with the tokenizer of a model that was trained on the embedded task."""
    small = ["model.layers=2", "model.hidden_size=64", "model.heads=2", "model.intermediate_size=128", "reference.updates=2"]
    done = subprocess.run(
        [*ALOLL, "train-reference", *small, "reference.eval_every=2", f"output_dir={folder}"], capture_output=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr.decode())
    (policy,) = folder.glob("reviews/reference/*/policy")
    return policy


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", help="folder or hub name of a model")
    parser.add_argument("--rehearse", action="store_true", help="on a CPU, with a small random model and fewer combinations")
    parser.add_argument("--updates", type=int, default=30, help="training steps of the runs that are killed; default 30")
    given = parser.parse_args()
    if not given.rehearse and (given.model is None or not torch.cuda.is_available()):
        parser.error("a folder with a model and a GPU are needed; --rehearse needs neither")
    where = "a CPU (rehearsal)" if given.rehearse else torch.cuda.get_device_name()
    sys.stdout.write(f"torch {torch.__version__} on {where}\n")
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        path = tiny_model(place / "model") if given.rehearse else given.model
        model = [f"model.path={path}", *(["threads=1", "batch_size=4", "task.max_response_tokens=16"] if given.rehearse else [])]
        choices = CHOICES | ({"dtype": ("bfloat16",), "head": ("full",), "attn": ("sdpa",)} if given.rehearse else {})
        sizes = ["--prompts=16", "--longest=64", "--new=32", "--alternations=1"] if given.rehearse else ["--device=cuda"]
        checks = {
            "start: |ln rho|/sqrt(T) of the initial policy against the stored reference": starts(model, place / "s", choices),
            "resume: a run that was killed at its first checkpoint and continued": resumes(model, place / "r", given.updates),
            "generation: padded and continuous batches of this model": batches([f"--model={path}", *sizes], place / "b.json"),
            "generation: the same of a random model": batches(sizes, place / "random.json"),
        }
        for title, lines in checks.items():
            sys.stdout.write(f"\n{title}\n")
            for line, is_fine in lines:
                failed += not is_fine
                sys.stdout.write(f"{'ok  ' if is_fine else 'FAIL'} {line}\n")
                sys.stdout.flush()
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
