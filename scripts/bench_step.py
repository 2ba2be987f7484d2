"""Time one training step four ways, or weigh the chunked head against the full one.

    python scripts/bench_step.py             # nll, seq, plain labels=, two models: forward + backward
    python scripts/bench_step.py --chunked   # peak memory and gradients of model.head=chunked against full

All sizes are options; their defaults are those of docs/benchmarks.md. Needs Linux, whose /proc it reads.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import multiprocessing
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from aloll_cli.models.logprobs import ResponseLogps
from aloll_cli.training.batches import TokenBatch
from aloll_cli.variants.base import Batch, Variant
from aloll_cli.variants.nll import Nll
from aloll_cli.variants.seq import Seq

SEQ = Seq(clip=0.9)
BOUNDS = {("seq", "nll"): "<= 1.05", ("labels", "seq"): ">= 1.8", ("two models", "seq"): ">= 2.2"}  # of first / second


@dataclasses.dataclass(frozen=True)
class Setup:
    """What is measured; lengths in tokens."""

    vocab: int = 32_000
    prompt: int = 128
    response: int = 48
    batch: int = 8
    layers: int = 4
    hidden: int = 256
    alternations: int = 15
    warmup: int = 3
    threads: int = 2
    device: str = "cpu"
    dtype: str = "float32"


STEPS = Setup()
CHUNKED = Setup(vocab=128_000, prompt=16, response=2_048, batch=1)


def llama(setup: Setup, seed: int) -> LlamaForCausalLM:
    """A random Llama with 64-wide heads, an MLP of 8/3 times the width (as Llama 2) and an untied head."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=setup.vocab,
        hidden_size=setup.hidden,
        intermediate_size=16 * math.ceil(setup.hidden / 6),
        num_hidden_layers=setup.layers,
        num_attention_heads=max(1, setup.hidden // 64),
        max_position_embeddings=setup.prompt + setup.response,
    )
    return LlamaForCausalLM(config).to(setup.device, getattr(torch, setup.dtype))


def tokens(setup: Setup) -> TokenBatch:
    """Random tokens at full length, so that no step gains from what it does with padding."""
    torch.manual_seed(0)
    ids = torch.randint(setup.vocab, (setup.batch, setup.prompt + setup.response)).to(setup.device)
    prompt, response = ids.split([setup.prompt, setup.response], dim=1)
    return TokenBatch(prompt, torch.ones_like(prompt), response, torch.ones_like(response))


def mean_loss(variant: Variant, logps: Tensor, ref_logps: Tensor | None = None) -> Tensor:
    """The variant's loss of (B, T) log-probs per token, with a weight of its own for each row where it takes weights."""
    rows = torch.arange(len(logps), device=logps.device)
    weights = 0.5 + rows / len(logps)
    batch = Batch(
        logps=logps, behaviour_logps=ref_logps, weights=weights, rewards=weights, group=rows, mask=torch.ones_like(logps)
    )
    return variant.loss(batch).mean() / logps.shape[1]


def full_logps(model: LlamaForCausalLM, ids: Tensor, length: int) -> Tensor:
    """(B, T) log-probs of the last `length` tokens the usual way: logits and log-softmax at every position."""
    logits = model(ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
    logps: Tensor = logits[:, :-1].float().log_softmax(dim=-1).gather(2, ids[:, 1:, None]).squeeze(2)
    return logps[:, -length:]


def steps(policy: LlamaForCausalLM, reference: LlamaForCausalLM, batch: TokenBatch) -> dict[str, Callable[[], Tensor]]:
    """The forward pass of the four steps; each loss is a mean over tokens, so that nll = labels and seq = two models."""
    module, length = ResponseLogps(policy), batch.response_ids.shape[1]
    ids = torch.cat([batch.prompt_ids, batch.response_ids], dim=1)
    labels = torch.cat([torch.full_like(batch.prompt_ids, -100), batch.response_ids], dim=1)
    with torch.no_grad():
        stored = batch.logps(ResponseLogps(reference))

    def two_models() -> Tensor:
        logps = full_logps(policy, ids, length)
        with torch.no_grad():
            ref_logps = full_logps(reference, ids, length)
        return mean_loss(SEQ, logps, ref_logps)

    return {
        "nll": lambda: mean_loss(Nll(), batch.logps(module)),
        "seq": lambda: mean_loss(SEQ, batch.logps(module), stored),
        "labels": lambda: policy(ids, attention_mask=torch.ones_like(ids), labels=labels, use_cache=False).loss,
        "two models": two_models,
    }


def timed(step: Callable[[], Tensor], model: LlamaForCausalLM) -> tuple[float, float]:
    """Seconds of forward + backward, and the loss. Gradients are freed before, outside the timing."""
    synchronize = torch.cuda.synchronize if model.device.type == "cuda" else torch.cpu.synchronize
    model.zero_grad(set_to_none=True)
    synchronize()
    start = time.perf_counter()
    loss = step()
    loss.backward()
    synchronize()
    return time.perf_counter() - start, loss.item()


def compare_steps(setup: Setup) -> dict[str, Any]:
    """Each alternation times every step once, beginning with another one each time; ratios are taken within it."""
    torch.set_num_threads(setup.threads)
    policy = llama(setup, seed=0)
    choices = steps(policy, llama(setup, seed=1), tokens(setup))
    seconds: dict[str, list[float]] = {name: [] for name in choices}
    losses: dict[str, float] = {}
    for turn in range(-setup.warmup, setup.alternations):
        shift = turn % len(choices)
        for name in [*choices, *choices][shift : shift + len(choices)]:
            taken, losses[name] = timed(choices[name], policy)
            seconds[name] += [taken] if turn >= 0 else []
    ratios = {pair: [a / b for a, b in zip(*(seconds[name] for name in pair), strict=True)] for pair in BOUNDS}
    return {
        "steps": {name: {**spread(values), "loss": losses[name]} for name, values in seconds.items()},
        "ratios": {" / ".join(pair): {**spread(values), "bound": BOUNDS[pair]} for pair, values in ratios.items()},
    }


def spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def weigh(setup: Setup, head: str, gradients: Path) -> dict[str, float]:
    """Seconds and extra peak memory of one seq step, alone in its process; leaves the gradients in a file."""
    torch.set_num_threads(setup.threads)
    model, batch = llama(setup, seed=0), tokens(setup)
    ref_logps = torch.randn_like(batch.response_ids, dtype=torch.float32) / 2 - math.log(setup.vocab)  # ratios around 1
    module = ResponseLogps(model, chunked=head == "chunked")
    with torch.no_grad():  # a short forward warms up; a backward would leave its own high-water mark
        module(batch.prompt_ids, batch.prompt_mask, batch.response_ids[:, :4], batch.response_mask[:, :4])
    before = memory(model.device)[0]
    seconds = timed(lambda: mean_loss(SEQ, batch.logps(module), ref_logps), model)[0]
    peak = memory(model.device)[1]
    grads = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    save_file(grads, gradients)
    size = sum(grad.nbytes for grad in grads.values())
    return {"seconds": seconds, "extra_mib": (peak - before) / 2**20, "gradients_mib": size / 2**20}


def memory(device: torch.device) -> tuple[int, int]:
    """Bytes held now and at the most so far: of tensors on a GPU, of the whole process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device), torch.cuda.max_memory_allocated(device)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def compare_heads(setup: Setup) -> dict[str, Any]:
    """Full against chunked head, each in a fresh process: its peak is a high-water mark."""
    with tempfile.TemporaryDirectory() as folder, multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        files = {head: Path(folder) / f"{head}.safetensors" for head in ("full", "chunked")}
        heads = {head: pool.apply(weigh, (setup, head, path)) for head, path in files.items()}
        errors = gradient_errors(load_file(files["full"]), load_file(files["chunked"]))
    return {"heads": heads, "peak_ratio": heads["chunked"]["extra_mib"] / heads["full"]["extra_mib"], **errors}


def gradient_errors(full: dict[str, Tensor], chunked: dict[str, Tensor]) -> dict[str, Any]:
    """‖g_full − g_chunked‖ / ‖g_full‖ over all parameters, and for the worst single one."""
    distances = {name: float((grad.double() - chunked[name].double()).norm()) for name, grad in full.items()}
    norms = {name: float(grad.double().norm()) for name, grad in full.items()}
    worst = max(full, key=lambda name: distances[name] / norms[name])
    error = math.hypot(*distances.values()) / math.hypot(*norms.values())
    return {"gradient_error": error, "worst_gradient_error": distances[worst] / norms[worst], "worst_parameter": worst}


def machine(device: str) -> dict[str, Any]:
    """Where the figures were taken."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), os.uname().machine)
    versions = {"python": sys.version.split()[0], "torch": torch.__version__, "transformers": transformers.__version__}
    gpu = {"gpu": torch.cuda.get_device_name(device)} if device.startswith("cuda") else {}
    return {**versions, "cpu": cpu, "cores": os.cpu_count(), **gpu}


def step_lines(figures: dict[str, Any]) -> list[str]:
    lines = ["step                  median         min         max        loss"]
    for name, row in figures["steps"].items():
        times = "".join(f"{1000 * row[key]:>9.1f} ms" for key in ("median", "min", "max"))
        lines.append(f"{name:<16}{times}{row['loss']:>12.4f}")
    lines += ["", "ratio                 median         min         max       bound"]
    for name, row in figures["ratios"].items():
        lines.append(f"{name:<16}{row['median']:>12.3f}{row['min']:>12.3f}{row['max']:>12.3f}{row['bound']:>12}")
    return lines


def head_lines(figures: dict[str, Any]) -> list[str]:
    lines = ["head      seconds  extra peak MiB  gradients in it MiB"]
    for head, row in figures["heads"].items():
        lines.append(f"{head:<8}{row['seconds']:>9.2f}{row['extra_mib']:>16.0f}{row['gradients_mib']:>21.0f}")
    lines += ["", f"extra peak, chunked / full  {figures['peak_ratio']:>9.3f}     bound <= 0.35"]
    lines += [f"relative gradient error     {figures['gradient_error']:>9.1e}     bound <= 1e-5"]
    return [*lines, f"  of the worst parameter    {figures['worst_gradient_error']:>9.1e}     {figures['worst_parameter']}"]


def main() -> None:
    """Measure what the options say and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chunked", action="store_true", help="compare the heads and not the steps")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    for name, default in dataclasses.asdict(STEPS).items():
        text = f"default {default}; with --chunked {getattr(CHUNKED, name)}"
        parser.add_argument(f"--{name}", type=type(default), default=argparse.SUPPRESS, help=text)
    options = vars(parser.parse_args())
    chunked, file = options.pop("chunked"), options.pop("json")
    setup = dataclasses.replace(CHUNKED if chunked else STEPS, **options)
    figures = compare_heads(setup) if chunked else compare_steps(setup)
    record = {"machine": machine(setup.device), "setup": dataclasses.asdict(setup), **figures}
    lines = [", ".join(f"{key} {value}" for key, value in record[part].items()) for part in ("machine", "setup")]
    sys.stdout.write("\n".join([*lines, "", *(head_lines(figures) if chunked else step_lines(figures))]) + "\n")
    if file:
        file.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
