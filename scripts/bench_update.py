"""Time whole training steps of a large model with LoRA, compared with the usual way: two models, logits at every position.

    python scripts/bench_update.py --device cuda                          # a 7 B shape in bf16
    python scripts/bench_update.py --device cuda --quantization nf4       # and in 4 bits
    python scripts/bench_update.py --layers 2 --hidden 256 --mlp 688 --vocab 2048 --prompt 64 --response 32   # on a CPU

Weights are random and are saved to a temporary folder first, so that they are loaded by the code that loads published ones.
One process measures, in this order: ours with the full head, ours with the chunked head, and then the usual way, for which
the second model is loaded. Tokens per second count prompts and responses.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from bench_step import SEQ, full_logps, machine, mean_loss, memory, spread
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from aloll_cli.models.adapters import Lora
from aloll_cli.models.base import Dtype, Head, Placement
from aloll_cli.models.logprobs import ResponseLogps
from aloll_cli.models.optimizers import Adamw, Schedule
from aloll_cli.models.pretrained import Pretrained, Quantization
from aloll_cli.training.batches import TokenBatch


@dataclasses.dataclass(frozen=True)
class Setup:
    """What is measured; lengths in tokens. The defaults have the shape of LLaMA 7 B and the paper's sizes for HHA."""

    layers: int = 32
    hidden: int = 4096
    mlp: int = 11008
    vocab: int = 32_000
    prompt: int = 640
    response: int = 128
    micro_batch: int = 4
    micro_batches: int = 4
    rank: int = 64
    updates: int = 5
    warmup: int = 2
    quantization: str = "none"
    checkpointing: bool = True
    device: str = "cpu"
    threads: int = 2


def saved_llama(setup: Setup, folder: Path) -> int:
    """A random Llama in bf16 on disk; returns how many weights its layers and its head multiply by."""
    config = LlamaConfig(
        vocab_size=setup.vocab,
        hidden_size=setup.hidden,
        intermediate_size=setup.mlp,
        num_hidden_layers=setup.layers,
        num_attention_heads=max(1, setup.hidden // 128),
        max_position_embeddings=setup.prompt + setup.response,
        dtype=torch.bfloat16,
    )
    torch.manual_seed(0)
    with torch.device(setup.device):
        model = LlamaForCausalLM(config).to(torch.bfloat16)
    model.save_pretrained(folder)
    return sum(part.weight.numel() for part in model.modules() if isinstance(part, torch.nn.Linear))


def loaded(setup: Setup, folder: Path) -> PreTrainedModel:
    """The model as ``model=pretrained model.dtype=bfloat16`` has it."""
    model = Pretrained(
        dtype=Dtype.bfloat16, head=Head.full, path=str(folder), revision=None, adapter=None, adapter_revision=None,
        quantization=None if setup.quantization == "none" else Quantization[setup.quantization], double_quantization=True,
        trust_remote_code=False,
    )  # fmt: skip
    words = Tokenizer(WordLevel({"<s>": 1, "</s>": 2}, unk_token="<s>"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>", eos_token="</s>", pad_token="</s>")
    made = model.initial(tokenizer, 0, Placement(torch.device(setup.device), Dtype.bfloat16, None))
    torch.nn.Module.to(made, setup.device)
    return made.eval()


def with_lora(model: PreTrainedModel, setup: Setup) -> PreTrainedModel:
    """LoRA on every linear layer but the head, ready to train with dropout off."""
    Lora(r=setup.rank, alpha=16, dropout=0.0, targets=None).prepare(model, seed=0)
    return model


def batches(setup: Setup) -> list[TokenBatch]:
    """The micro-batches of a step, all rows at full length."""
    made = []
    for seed in range(setup.micro_batches):
        torch.manual_seed(seed)
        ids = torch.randint(3, setup.vocab, (setup.micro_batch, setup.prompt + setup.response)).to(setup.device)
        prompt, response = ids.split([setup.prompt, setup.response], dim=1)
        made.append(TokenBatch(prompt, torch.ones_like(prompt), response, torch.ones_like(response)))
    return made


def measured(losses: list[Callable[[], Tensor]], model: PreTrainedModel, setup: Setup) -> dict[str, Any]:
    """Seconds of training steps, the bytes held before them and at the most, and the loss of the first."""
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    options = Adamw(
        lr=1e-5, betas=[0.9, 0.999], eps=1e-6, weight_decay=0.0, schedule=Schedule.constant, warmup_updates=0,
        eight_bit=False, paged=setup.device.startswith("cuda"), max_grad_norm=0.3,
    )  # fmt: skip
    optimizer = options.build(trained)
    on_gpu = setup.device.startswith("cuda")
    synchronize = torch.cuda.synchronize if on_gpu else torch.cpu.synchronize
    gc.collect()
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    before, seconds, first = memory(torch.device(setup.device))[0], [], None
    for update in range(-setup.warmup, setup.updates):
        synchronize()
        start, total = time.perf_counter(), 0.0
        for loss in losses:
            value = loss() / len(losses)
            value.backward()
            total += value.item()
        torch.nn.utils.clip_grad_norm_(trained, 0.3)
        optimizer.step()
        optimizer.zero_grad()
        synchronize()
        first = total if first is None else first
        seconds += [time.perf_counter() - start] if update >= 0 else []
    peak = memory(torch.device(setup.device))[1]
    tokens = setup.micro_batch * len(losses) * (setup.prompt + setup.response)
    figures = {"seconds": spread(seconds), "tokens_per_s": tokens / spread(seconds)["median"], "loss": first}
    return figures | {"before_mib": before / 2**20, "peak_mib": peak / 2**20}


def ours(model: PreTrainedModel, stored: list[Tensor], setup: Setup, chunked: bool) -> dict[str, Any]:
    """One model, stored reference log-probs, logits of response positions only."""
    module = ResponseLogps(model, chunked, setup.checkpointing)
    module.set_to_train(dropout=False)

    def loss(batch: TokenBatch, reference: Tensor) -> Tensor:
        with torch.autocast(torch.device(setup.device).type, torch.bfloat16):
            return mean_loss(SEQ, batch.logps(module), reference)

    pairs = zip(batches(setup), stored, strict=True)
    return measured([lambda batch=batch, ref=ref: loss(batch, ref) for batch, ref in pairs], model, setup)


def usual(model: PreTrainedModel, reference: PreTrainedModel, setup: Setup) -> dict[str, Any]:
    """A second model in memory, logits and log-softmax at every position of both."""

    ResponseLogps(model, recompute=setup.checkpointing).set_to_train(dropout=False)

    def loss(batch: TokenBatch) -> Tensor:
        ids = torch.cat([batch.prompt_ids, batch.response_ids], dim=1)
        with torch.autocast(torch.device(setup.device).type, torch.bfloat16):
            logps = full_logps(model, ids, setup.response)
            with torch.no_grad():
                ref_logps = full_logps(reference, ids, setup.response)
            return mean_loss(SEQ, logps, ref_logps)

    return measured([lambda batch=batch: loss(batch) for batch in batches(setup)], model, setup)


def matmul_rate(setup: Setup) -> float:
    """FLOP/s of bf16 matrix products of the model's own sizes: all tokens of a micro-batch by hidden by mlp."""
    rows = setup.micro_batch * (setup.prompt + setup.response)
    a = torch.randn(rows, setup.hidden, device=setup.device, dtype=torch.bfloat16)
    b = torch.randn(setup.hidden, setup.mlp, device=setup.device, dtype=torch.bfloat16)
    synchronize = torch.cuda.synchronize if setup.device.startswith("cuda") else torch.cpu.synchronize
    rates = []
    for _ in range(6):
        synchronize()
        start = time.perf_counter()
        for _ in range(20):
            a @ b
        synchronize()
        rates.append(20 * 2 * rows * setup.hidden * setup.mlp / (time.perf_counter() - start))
    return max(rates)


def compare(setup: Setup) -> dict[str, Any]:
    """All that is measured."""
    torch.set_num_threads(setup.threads)
    with tempfile.TemporaryDirectory() as folder:
        weights = saved_llama(setup, Path(folder))
        gc.collect()
        model = loaded(setup, Path(folder))
        module = ResponseLogps(model)
        with torch.no_grad(), torch.autocast(torch.device(setup.device).type, torch.bfloat16):
            stored = [batch.logps(module) for batch in batches(setup)]
        with_lora(model, setup)
        figures = {name: ours(model, stored, setup, name == "chunked head") for name in ("full head", "chunked head")}
        figures["two models"] = usual(model, loaded(setup, Path(folder)), setup)
    tokens = setup.micro_batch * setup.micro_batches * (setup.prompt + setup.response)
    rate = matmul_rate(setup)
    for row in figures.values():
        # forward, and backward to the activations: frozen weights have no gradients. What is computed again does not count
        row["share_of_matmul"] = 4 * weights * tokens / row["seconds"]["median"] / rate
    return {"ways": figures, "matmul_tflops": rate / 1e12, "weights": weights}


def lines(figures: dict[str, Any]) -> list[str]:
    """A table."""
    head = "way                seconds       min       max  tokens/s  before MiB  peak MiB  of matmul        loss"
    rows = [
        f"{name:<14}{row['seconds']['median']:>12.3f}{row['seconds']['min']:>10.3f}{row['seconds']['max']:>10.3f}"
        f"{row['tokens_per_s']:>10.0f}{row['before_mib']:>12.0f}{row['peak_mib']:>10.0f}{row['share_of_matmul']:>11.1%}"
        f"{row['loss']:>12.5f}"
        for name, row in figures["ways"].items()
    ]
    return [
        head,
        *rows,
        "",
        f"bf16 matrix products: {figures['matmul_tflops']:.3f} TFLOP/s; {figures['weights']:,} weights in them",
    ]


def main() -> None:
    """Measure what the options say and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    for name, default in dataclasses.asdict(Setup()).items():
        kind = argparse.BooleanOptionalAction if isinstance(default, bool) else "store"
        typed = {} if isinstance(default, bool) else {"type": type(default)}
        parser.add_argument(f"--{name.replace('_', '-')}", action=kind, default=default, help=f"default {default}", **typed)
    options = vars(parser.parse_args())
    file = options.pop("json")
    setup = Setup(**options)
    record = {"machine": machine(setup.device), "setup": dataclasses.asdict(setup), **compare(setup)}
    shown = [", ".join(f"{key} {value}" for key, value in record[part].items()) for part in ("machine", "setup")]
    sys.stdout.write("\n".join([*shown, "", *lines(record)]) + "\n")
    if file:
        file.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
