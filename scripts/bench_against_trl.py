"""Time training steps of aloll and of TRL on the same model, tokens and machine, in alternation: SFT and nll, seq, DPO and dpo.

    pip install -e '.[bench]'
    python scripts/bench_against_trl.py                          # vocabulary 32,000, 4 layers of 256
    python scripts/bench_against_trl.py --model SMOLLM2_FOLDER   # a saved model

A step is forward, backward, clipping and the optimizer, of a batch of pretokenized rows, each of the same length, so that nobody
gains from padding. Both start from the same weights; the first losses show that both do the same work (the sums over tokens of
nll and seq are divided by their number). TRL's DPO takes reference log-probs from its data set, as ours are stored; its gradient
checkpointing is off. Ratios are taken within each alternation. Beside them stands nll as one would write it by hand. During
our steps freed memory stays in the process, as in aloll's own commands; during the others it goes back to the system, as glibc
has it. Each turn takes two steps and times the second.
"""

from __future__ import annotations

import argparse
import copy
import ctypes
import dataclasses
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_step import Setup, llama, machine
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from aloll_cli.models.base import Dtype, Numbers
from aloll_cli.models.logprobs import ResponseLogps
from aloll_cli.models.optimizers import Adamw, Schedule
from aloll_cli.runtime.memory import MMAP_THRESHOLD, TRIM_THRESHOLD, keep_freed_memory
from aloll_cli.training.batches import batch_logps
from aloll_cli.training.loop import Trainer
from aloll_cli.training.sources import Rows, Source
from aloll_cli.variants.base import Reduction, Variant
from aloll_cli.variants.dpo import Dpo
from aloll_cli.variants.nll import Nll
from aloll_cli.variants.seq import Seq

LR, BETA = 1e-5, 0.1
OURS: dict[str, Variant] = {"aloll nll": Nll(), "aloll seq": Seq(clip=0.9), "aloll dpo": Dpo(beta=BETA)}
RATIOS = (
    ("TRL SFT", "aloll nll"), ("aloll seq", "aloll nll"), ("TRL DPO", "aloll dpo"), ("aloll nll", "by hand"),
)  # fmt: skip


@dataclasses.dataclass
class Tokens:
    """Rows of random tokens; two rows in a row share their prompt."""

    prompts: np.ndarray
    responses: np.ndarray

    @classmethod
    def random(cls, rows: int, setup: Setup, vocabulary: int) -> Tokens:
        """An even number of rows."""
        draw = np.random.default_rng(0)
        prompts = draw.integers(3, vocabulary, (rows // 2, setup.prompt)).repeat(2, axis=0)
        return cls(prompts, draw.integers(3, vocabulary, (rows, setup.response)))

    def __len__(self) -> int:
        return len(self.prompts)

    def prompt_ids(self, row: int) -> np.ndarray:
        return self.prompts[row]

    def response_ids(self, row: int) -> np.ndarray:
        return self.responses[row]

    def prompt_lengths(self, rows: np.ndarray) -> np.ndarray:
        return np.full(len(rows), self.prompts.shape[1])

    def response_lengths(self, rows: np.ndarray) -> np.ndarray:
        return np.full(len(rows), self.responses.shape[1])


@dataclasses.dataclass
class Stored:
    """Log-probs by row."""

    logps: list[np.ndarray]

    @property
    def rows(self) -> np.ndarray:
        return np.arange(len(self.logps))

    def row(self, index: int) -> np.ndarray:
        return self.logps[index]


class InOrder(Source):
    """Batches in the order of the rows: single ones, or pairs."""

    kept = None

    def __init__(self, rows: Rows, batch: int, members: int) -> None:
        self.rows, self.batch, self.members = rows, batch, members
        self.kept_units = len(rows.responses) // members

    def units(self, update: int) -> list[np.ndarray]:
        first = update * self.batch
        return [np.arange(unit * self.members, (unit + 1) * self.members) for unit in range(first, first + self.batch)]


class NoJob:
    """As much of a build as a training step reads."""

    def __init__(self, batch: int) -> None:
        from aloll_cli.runtime.world import Alone

        self.world, self.runtime = Alone(), argparse.Namespace(micro_batch_size=batch, scoring_batch_tokens=8192)


def ours(model: PreTrainedModel, variant: Variant, tokens: Tokens, stored: Stored, setup: Setup, tokenizer: Any) -> Callable:
    """The function of a step of aloll's own training loop, which returns its loss per token, or per pair."""
    members = 2 if variant.unit != "response" else 1
    size = setup.batch
    rewards = np.tile([1.0, 0.0], len(tokens) // 2)
    behaviour = stored if variant.needs_behaviour else None
    rows = Rows(tokens, np.ones(len(tokens)), rewards, behaviour)
    optimizer = Adamw(
        lr=LR, betas=[0.9, 0.999], eps=1e-8, weight_decay=0.0, schedule=Schedule.constant, warmup_updates=0, eight_bit=False,
        paged=False, max_grad_norm=1.0,
    )  # fmt: skip
    trainer = Trainer(
        job=NoJob(size * members), label="bench", module=ResponseLogps(model, shares=members > 1),
        numbers=Numbers(Dtype.float32, True, None),
        is_exact=True, stored_logps=None, tokenizer=tokenizer, source=InOrder(rows, size, members), variant=variant,
        reduction=Reduction.sum, optimizer_options=optimizer, updates=10**6, eval_every=10**6, select_best=True, early_stop=None,
        seed=1,
        evaluator=None, track=None,
    )  # fmt: skip
    per = setup.response if members == 1 else 1
    return lambda step: trainer.step(step)["loss"] / per


def by_hand(model: PreTrainedModel, tokens: Tokens, setup: Setup) -> Callable:
    """The function of a step of nll as one would write it down: logits of the response alone, AdamW fused; its loss per token."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=0.0, fused=True)
    whole = torch.tensor(np.concatenate([tokens.prompts, tokens.responses], axis=1))
    model.train()

    def step(number: int) -> float:
        ids = whole[number * setup.batch : (number + 1) * setup.batch]
        states = model.base_model(ids).last_hidden_state[:, setup.prompt - 1 : -1]
        logits = model.get_output_embeddings()(states).flatten(0, 1)
        loss = torch.nn.functional.cross_entropy(logits, ids[:, setup.prompt :].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return float(loss)

    return step


def flops(model: PreTrainedModel, setup: Setup) -> float:
    """Floating-point operations of a step of nll, the optimizer's apart.

    6 for each weight of a layer and token; attention's two products at all positions; the output layer where the response is.
    """
    config = model.config
    length = setup.prompt + setup.response
    layers = sum(
        weight.numel()
        for module in model.base_model.modules()
        if isinstance(module, torch.nn.Linear)
        for weight in module.parameters()
    )
    attention = 2 * config.num_hidden_layers * config.hidden_size * length
    head = config.hidden_size * config.vocab_size * setup.response / length
    return 6.0 * setup.batch * length * (layers + attention + head)


def matmul_rate(side: int = 2048) -> float:
    """Floating-point operations a second of a matrix product, at best of 30."""
    a, times = torch.randn(side, side), []
    for _ in range(30):
        start = time.perf_counter()
        a @ a
        times.append(time.perf_counter() - start)
    return 2.0 * side**3 / min(times)


def by_default() -> None:
    """Return freed memory to the system as glibc does in a process that has freed blocks of every size."""
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(MMAP_THRESHOLD, 32 * 2**20)
    mallopt(TRIM_THRESHOLD, 64 * 2**20)


def theirs(trainer: Any) -> Callable:
    """The function of a step of a TRL trainer, which returns its loss."""
    trainer.create_optimizer_and_scheduler(num_training_steps=10**6)
    trainer.model, trainer.optimizer = trainer.accelerator.prepare(trainer.model, trainer.optimizer)
    trainer.current_gradient_accumulation_steps = 1  # what trainer.train() sets
    batches = iter(trainer.get_train_dataloader())

    def step(number: int) -> float:
        loss = trainer.training_step(trainer.model, next(batches))
        trainer.accelerator.clip_grad_norm_(trainer.model.parameters(), trainer.args.max_grad_norm)
        trainer.optimizer.step()
        trainer.optimizer.zero_grad()
        return float(loss)

    return step


def of_trl(base: PreTrainedModel, tokens: Tokens, stored: Stored, setup: Setup, tokenizer: Any, folder: str) -> tuple[dict, dict]:
    """TRL's two steps, and the settings that they run under."""
    import trl
    from datasets import Dataset

    common = {
        "output_dir": folder, "per_device_train_batch_size": setup.batch, "learning_rate": LR, "lr_scheduler_type": "constant",
        "gradient_checkpointing": False, "bf16": False, "use_cpu": True, "report_to": "none", "max_length": None,
        "max_grad_norm": 1.0, "weight_decay": 0.0, "dataloader_drop_last": True,
    }  # fmt: skip
    whole = np.concatenate([tokens.prompts, tokens.responses], axis=1)
    mask = [0] * setup.prompt + [1] * setup.response
    sft_rows = Dataset.from_dict({"input_ids": whole.tolist(), "completion_mask": [mask] * len(tokens)})
    sft_config = trl.SFTConfig(**common, completion_only_loss=True, dataset_kwargs={"skip_prepare_dataset": False})
    sft = trl.SFTTrainer(copy.deepcopy(base), sft_config, train_dataset=sft_rows, processing_class=tokenizer)
    sums = [float(row.sum()) for row in stored.logps]
    pairs = Dataset.from_dict({
        "prompt_ids": tokens.prompts[::2].tolist(), "chosen_ids": tokens.responses[::2].tolist(),
        "rejected_ids": tokens.responses[1::2].tolist(), "ref_chosen_logps": sums[::2], "ref_rejected_logps": sums[1::2],
    })  # fmt: skip

    class Pretokenized(trl.DPOTrainer):
        def _prepare_dataset(self, dataset: Any, *more: Any, **options: Any) -> Any:
            return dataset

        def _precompute_ref_logps(self, dataset: Any, *more: Any, **options: Any) -> Any:
            return dataset

    dpo_config = trl.DPOConfig(**common, beta=BETA, precompute_ref_log_probs=True)
    dpo = Pretokenized(copy.deepcopy(base), None, dpo_config, train_dataset=pairs, processing_class=tokenizer)
    for trainer in (sft, dpo):  # rows in their order, as ours
        trainer._get_train_sampler = lambda *args, **options: None
    names = ("optim", "gradient_checkpointing", "bf16", "max_grad_norm", "padding_free", "use_liger_kernel", "loss_type")
    said = {name: str(getattr(sft.args, name, None)) for name in names}
    return {"TRL SFT": theirs(sft), "TRL DPO": theirs(dpo)}, {"trl": trl.__version__, **said}


def compare(setup: Setup, folder: Path | None) -> dict[str, Any]:
    """Each alternation takes one step of each, beginning with another one each time."""
    torch.set_num_threads(setup.threads)
    base: PreTrainedModel = (
        llama(setup, seed=0) if folder is None else AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    )
    words = {"<pad>": 0, "<s>": 1, "</s>": 2} | {f"w{i}": i for i in range(3, base.config.vocab_size)}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(words, unk_token="<pad>")), pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )
    steps = setup.warmup + setup.alternations
    tokens = Tokens.random(4 * setup.batch * steps, setup, base.config.vocab_size)
    base.eval()
    stored = Stored(batch_logps(ResponseLogps(base), tokens, list(range(len(tokens))), 0, 4096))
    with tempfile.TemporaryDirectory() as work:
        run, settings = of_trl(base, tokens, stored, setup, tokenizer, work)
        run |= {name: ours(copy.deepcopy(base), variant, tokens, stored, setup, tokenizer) for name, variant in OURS.items()}
        run["by hand"] = by_hand(copy.deepcopy(base), tokens, setup)
        seconds: dict[str, list[float]] = {name: [] for name in run}
        losses: dict[str, list[float]] = {name: [] for name in run}
        names = list(run)
        for step in range(steps):
            for name in names[step % len(names) :] + names[: step % len(names)]:
                (keep_freed_memory if name in OURS else by_default)()
                losses[name].append(run[name](2 * step))
                start = time.perf_counter()
                losses[name].append(run[name](2 * step + 1))
                seconds[name].append(time.perf_counter() - start)
    timed = {name: values[setup.warmup :] for name, values in seconds.items()}
    ratios = {f"{a} / {b}": statistics.median(x / y for x, y in zip(timed[a], timed[b], strict=True)) for a, b in RATIOS}
    rows = {
        name: {"median": statistics.median(values), "min": min(values), "max": max(values), "losses": losses[name][:3]}
        for name, values in timed.items()
    }
    rate, work = matmul_rate(), flops(base, setup)
    return {
        "matmul_gflops": rate / 1e9,
        "share_of_matmul": {name: work / rows[name]["median"] / rate for name in ("aloll nll", "by hand", "TRL SFT")},
        "machine": machine("cpu"), "setup": dataclasses.asdict(setup), "model": str(folder or "random"),
        "settings of TRL": settings, "steps": rows, "ratios": ratios,
    }  # fmt: skip


def lines(figures: dict[str, Any]) -> list[str]:
    """The figures as a table."""
    found = ["step             median       min       max   losses of the first three steps"]
    for name, row in figures["steps"].items():
        times = "".join(f"{row[key]:>8.3f} s" for key in ("median", "min", "max"))
        found.append(f"{name:<12}{times}   {'  '.join(f'{loss:.5f}' for loss in row['losses'])}")
    return [
        *found,
        "",
        *(f"{name}: {ratio:.3f}" for name, ratio in figures["ratios"].items()),
        "",
        f"a matrix product: {figures['matmul_gflops']:.0f} GFLOP/s; share of it that the operations of nll reach, by the clock:",
        ", ".join(f"{name} {share:.2f}" for name, share in figures["share_of_matmul"].items()),
        "",
        f"TRL: {figures['settings of TRL']}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="folder of a saved model; default: a random one of these sizes")
    parser.add_argument("--json", type=Path, help="file for all figures")
    defaults = Setup(alternations=9, warmup=2)
    for field in dataclasses.fields(Setup):
        if field.name not in ("device", "dtype"):
            parser.add_argument(f"--{field.name}", type=int, default=getattr(defaults, field.name))
    args = vars(parser.parse_args())
    model, file = args.pop("model"), args.pop("json")
    figures = compare(Setup(**args), model)
    sys.stdout.write("\n".join(lines(figures)) + "\n")
    if file:
        file.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
