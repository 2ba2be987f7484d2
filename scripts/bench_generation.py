"""Time generation in the prompts' own order, sorted by length, and in batches filled by tokens; or in other ways.

    python scripts/bench_generation.py
    python scripts/bench_generation.py --samples 4                   # 256 sampled responses to 256 and to 64 prompts
    python scripts/bench_generation.py --samples 4 --model FOLDER    # of a saved model
    python scripts/bench_generation.py --batching                    # padded and continuous batches; takes --model, too

All sizes are options; their defaults are those of docs/benchmarks.md. On a CPU the seconds are those of the processor, which
other jobs disturb little; on a GPU they are those of the clock. Greedy responses that differ between the ways are shown to begin
to differ at a near tie of the two likeliest tokens. With --batching, one token in ``--end-every`` of the random model ends a
response, so that lengths differ. Samples of a prompt are computed apart, or share their prompt; those that
differ are shown to begin to differ at two tokens next to each other in likelihood, which rounding can turn round.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from bench_step import machine, spread
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from aloll_cli.arrays import IntArray
from aloll_cli.models import prefill
from aloll_cli.models.decoding import Greedy, Sample
from aloll_cli.models.generation import respond
from aloll_cli.models.pretrained import with_plain_decoding
from aloll_cli.runtime.options import Batching
from aloll_cli.text.packing import longest_first

PAIRS = {("file order", "sorted"): ">= 1.3", ("file order", "filled by tokens"): "", ("sorted", "filled by tokens"): ""}
TIE = 1e-4  # of two logits: rounding may turn them round
T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Setup:
    """What is measured; lengths in tokens."""

    prompts: int = 500
    shortest: int = 16
    longest: int = 512
    new: int = 32
    batch: int = 32
    batch_tokens: int = 8_192
    vocab: int = 8_000
    layers: int = 2
    hidden: int = 256
    alternations: int = 3
    threads: int = 1
    end_every: int = 40
    device: str = "cpu"


BATCHED = Setup(prompts=256, longest=128, new=128)
SAMPLED = Setup(prompts=256, longest=256, new=64, hidden=128, layers=4, vocab=2_048)  # the shape of model=tiny


def llama(setup: Setup) -> LlamaForCausalLM:
    """A random Llama with 64-wide heads and weights large enough that its likeliest tokens differ, in eval mode."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=setup.vocab,
        hidden_size=setup.hidden,
        intermediate_size=16 * math.ceil(setup.hidden / 6),
        num_hidden_layers=setup.layers,
        num_attention_heads=max(1, setup.hidden // 64),
        max_position_embeddings=setup.longest + setup.new,
        initializer_range=0.1,
    )
    return LlamaForCausalLM(config).to(setup.device).eval()


def words(setup: Setup) -> PreTrainedTokenizerBase:
    """A tokenizer with a word for each token, so that texts are equal where tokens are."""
    vocabulary = {f"w{i}": i for i in range(setup.vocab)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="w3"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="w0", bos_token="w1", eos_token="w2")


def prompts(setup: Setup) -> list[IntArray]:
    """Random tokens, with lengths log-uniform from the shortest to the longest."""
    random = np.random.default_rng(0)
    lengths = np.exp(random.uniform(math.log(setup.shortest), math.log(setup.longest + 1), setup.prompts)).astype(int)
    return [random.integers(4, setup.vocab, length) for length in lengths]


def opened(setup: Setup, folder: str | None) -> tuple[Any, PreTrainedTokenizerBase, Setup]:
    """A saved model in 32 bits, or the random one; its tokenizer; and the sizes with its vocabulary."""
    if folder is None:
        return llama(setup), words(setup), setup
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).to(setup.device).eval()
    return with_plain_decoding(model, tokenizer), tokenizer, dataclasses.replace(setup, vocab=len(tokenizer))


class Ways:
    """Ways of generating greedy responses to the same prompts."""

    def __init__(self, setup: Setup, folder: str | None = None) -> None:
        self.model, self.tokenizer, self.setup = opened(setup, folder)
        self.prompts = prompts(self.setup)
        by_length = longest_first([len(prompt) for prompt in self.prompts]).tolist()
        self.rows = list(range(setup.prompts))
        self.calls = {
            "file order": (_chunks(self.rows, setup.batch), sys.maxsize, Batching.padded),
            "sorted": (_chunks(by_length, setup.batch), sys.maxsize, Batching.padded),
            "filled by tokens": ([self.rows], setup.batch_tokens, Batching.padded),
        }

    def responses(self, name: str) -> list[list[int]]:
        """The tokens of the responses of one way, in the prompts' order."""
        calls, *how = self.calls[name]
        found: dict[int, list[int]] = {}
        for chosen in calls:
            found |= dict(zip(chosen, self.respond(chosen, *how), strict=True))
        return [found[i] for i in self.rows]

    def respond(self, chosen: list[int], batch_tokens: int, batching: Batching) -> list[list[int]]:
        """The tokens of greedy responses to some of the prompts."""
        found = respond(
            self.model, self.tokenizer, [self.prompts[i] for i in chosen], [str(i) for i in chosen],
            Greedy(repetition_penalty=1.0), stream="0", max_tokens=self.setup.new, stop=[], batch_tokens=batch_tokens,
            batching=batching, tell=_refuse,
        )  # fmt: skip
        return [response.ids for response in found]

    @torch.inference_mode()
    def gap(self, row: int, first: list[int], second: list[int]) -> float:
        """How far apart the logits of the two likeliest tokens are where two responses to a prompt begin to differ."""
        so_far = [*self.prompts[row].tolist(), *os.path.commonprefix([first, second])]
        logits = self.model(torch.tensor([so_far], device=self.model.device)).logits[0, -1].double()
        top = logits.topk(2).values
        return float(top[0] - top[1])


def _refuse(line: str) -> None:
    raise SystemExit(line)


class Batches(Ways):
    """Padded and continuous batches, of responses that end at different lengths."""

    def __init__(self, setup: Setup, folder: str | None) -> None:
        super().__init__(setup, folder)
        if folder is None:
            self.model.generation_config.eos_token_id = list(range(2, setup.vocab, setup.end_every))
        self.calls = {batching.name: ([self.rows], setup.batch_tokens, batching) for batching in Batching}


class Samples:
    """Sampled responses, several for each prompt, whose rows are computed separately or share their prompt."""

    def __init__(self, setup: Setup, folder: str | None, samples: int) -> None:
        self.model, self.tokenizer, self.setup = opened(setup, folder)
        self.prompts = prompts(self.setup)
        self.calls = {
            f"{count} {name}": (count, worth)
            for count in (1, samples) for name, worth in (("apart", 0.0), ("shared", prefill.WORTH))
        }  # fmt: skip

    def responses(self, name: str, rows: int | None = None) -> list[list[int]]:
        """The tokens of so many responses, in one of the ways."""
        count, prefill.WORTH = self.calls[name]
        rows = self.setup.prompts if rows is None else rows
        sampled = Sample(samples=count, seed=1, top_p=0.95, temperature=1.0, repetition_penalty=1.0)
        chosen = [(prompt, name) for i, prompt in enumerate(self.prompts[: rows // count]) for name in sampled.names(str(i))]
        found = respond(
            self.model, self.tokenizer, [prompt for prompt, _ in chosen], [name for _, name in chosen], sampled, stream="0",
            max_tokens=self.setup.new, stop=[], batch_tokens=self.setup.batch_tokens,
        )  # fmt: skip
        return [response.ids for response in found]

    @torch.inference_mode()
    def ranks(self, prompt: IntArray, first: list[int], second: list[int]) -> int:
        """How many ranks of likelihood the tokens are apart at which two responses begin to differ."""
        common = len(os.path.commonprefix([first, second]))
        so_far = torch.tensor([[*prompt.tolist(), *first[:common]]], device=self.model.device)
        order = self.model(so_far).logits[0, -1].argsort(descending=True).tolist()
        one, other = (order.index(tokens[common]) for tokens in (first, second))
        return abs(one - other)


def compare_samples(setup: Setup, folder: str | None, samples: int) -> dict[str, Any]:
    """Each alternation times every way once, beginning with another one each time."""
    torch.set_num_threads(setup.threads)
    ways, worth = Samples(setup, folder, samples), prefill.WORTH
    first = next(iter(ways.calls))
    try:
        seconds, tokens = alternated(setup, list(ways.calls), ways.responses, lambda: ways.responses(first, samples))
    finally:
        prefill.WORTH = worth
    pairs = list(zip(*[iter(ways.calls)] * 2, strict=True))
    apart = [
        ways.ranks(ways.prompts[i // ways.calls[pair[0]][0]], a, b)
        for pair in pairs for i, (a, b) in enumerate(zip(*(tokens[name] for name in pair), strict=True)) if a != b
    ]  # fmt: skip
    return {
        "ways": {name: spread(values) for name, values in seconds.items()},
        "ratios": {" / ".join(pair): _ratio(seconds, pair) for pair in pairs},
        "texts": {"compared": 2 * setup.prompts, "different": len(apart), "ranks": max(apart, default=0)},
    }


def _ratio(seconds: dict[str, list[float]], pair: tuple[str, ...], bound: str = "") -> dict[str, Any]:
    return {**spread([a / b for a, b in zip(*(seconds[name] for name in pair), strict=True)]), "bound": bound}


def alternated(
    setup: Setup, names: list[str], responses: Callable[[str], list[T]], warm_up: Callable[[], Any]
) -> tuple[dict[str, list[float]], dict[str, list[T]]]:
    """The seconds of each way, and its responses."""
    warm_up()
    seconds: dict[str, list[float]] = {name: [] for name in names}
    found: dict[str, list[T]] = {}
    clock = time.process_time if setup.device == "cpu" else time.perf_counter
    for turn in range(setup.alternations):
        shift = turn % len(names)
        for name in [*names, *names][shift : shift + len(names)]:
            start = clock()
            found[name] = responses(name)
            seconds[name].append(clock() - start)
    return seconds, found


def _chunks(rows: list[int], size: int) -> list[list[int]]:
    return [rows[i : i + size] for i in range(0, len(rows), size)]


def compare(ways: Ways, pairs: dict[tuple[str, ...], str]) -> dict[str, Any]:
    """Each alternation times every way once, beginning with another one each time; ratios are taken within it."""
    setup = ways.setup
    torch.set_num_threads(setup.threads)
    names = list(ways.calls)
    first = list(range(min(setup.batch, setup.prompts)))
    how = [ways.calls[name][1:] for name in names]
    seconds, responses = alternated(setup, names, ways.responses, lambda: [ways.respond(first, *each) for each in how])
    expected = responses[names[0]]
    gaps = [
        ways.gap(i, expected[i], responses[name][i])
        for name in names[1:] for i in range(setup.prompts) if responses[name][i] != expected[i]
    ]  # fmt: skip
    return {
        "ways": {name: spread(values) for name, values in seconds.items()},
        "ratios": {" / ".join(pair): _ratio(seconds, pair, bound) for pair, bound in pairs.items()},
        "lengths": {"mean": float(np.mean([len(tokens) for tokens in expected])), "limit": setup.new},
        "texts": {"compared": (len(names) - 1) * setup.prompts, "different": len(gaps), "widest_gap": max(gaps, default=0.0)},
    }


def report(figures: dict[str, Any]) -> list[str]:
    lines = [f"{'seconds':<30}{'median':>10}{'min':>10}{'max':>10}"]
    for name, row in figures["ways"].items():
        lines.append(f"{name:<30}" + "".join(f"{row[key]:>10.2f}" for key in ("median", "min", "max")))
    lines += ["", f"{'ratio':<30}{'median':>10}{'min':>10}{'max':>10}{'bound':>10}"]
    for name, row in figures["ratios"].items():
        lines.append(f"{name:<30}" + "".join(f"{row[key]:>10.2f}" for key in ("median", "min", "max")) + f"{row['bound']:>10}")
    texts = figures["texts"]
    count = f"{texts['different']} of {texts['compared']} texts differ"
    if "ranks" in texts:
        return [*lines, "", f"{count} between the ways; they begin to at tokens {texts['ranks']} ranks apart at most, bound < 2"]
    lines += ["", f"responses of {figures['lengths']['mean']:.1f} tokens in the mean, {figures['lengths']['limit']} at most"]
    gap = f"widest top-2 gap where they begin to: {texts['widest_gap']:.1e}, bound < {TIE:g}"
    return [*lines, "", f"{count} from those of the first way; {gap}"]


def main() -> int:
    """Measure what the options say and print it; returns 1 where texts differ by more than rounding."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    parser.add_argument("--samples", type=int, metavar="N", help="time 1 and N samples per prompt instead")
    parser.add_argument("--batching", action="store_true", help="time padded and continuous batches instead")
    parser.add_argument("--model", metavar="FOLDER", help="of this saved model, with --samples or --batching")
    for name, default in dataclasses.asdict(Setup()).items():
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, type=type(default), default=argparse.SUPPRESS, help=f"default {default}")
    options = vars(parser.parse_args())
    file, samples, batching, folder = (options.pop(name) for name in ("json", "samples", "batching", "model"))
    setup = dataclasses.replace(BATCHED if batching else Setup() if samples is None else SAMPLED, **options)
    if batching:
        figures = compare(Batches(setup, folder), {("padded", "continuous"): ""})
    else:
        figures = compare(Ways(setup), PAIRS) if samples is None else compare_samples(setup, folder, samples)
    record = {"machine": machine(setup.device), "setup": dataclasses.asdict(setup), **figures}
    lines = [", ".join(f"{key} {value}" for key, value in record[part].items()) for part in ("machine", "setup")]
    sys.stdout.write("\n".join([*lines, "", *report(figures)]) + "\n")
    if file:
        file.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    texts = figures["texts"]
    return int(texts["ranks"] > 1 if "ranks" in texts else texts["widest_gap"] >= TIE)


if __name__ == "__main__":
    sys.exit(main())
