"""How long a configuration takes on this machine: passes of its language model, timed, or estimated from a matrix product."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from aloll_cli.artifacts.costs import Sizes, Work, work
from aloll_cli.artifacts.policy import TrainedPolicy
from aloll_cli.models.base import Head
from aloll_cli.store.store import Artifact, Job, Store, upstream

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from aloll_cli.artifacts.pipeline import Pipeline

REPEATS = 3
MOST_ROWS = 8  # rows of a timed batch
TOKENS = (2, 10)  # generated, to tell the prompt's share from that of each token
SIDE = 1024  # of the matrices whose product is timed
SHARE = 0.4  # of a matrix product's rate that training and scoring reach
SLOWER = 10.0  # times that generation takes for each operation, as it goes token by token


@dataclass(frozen=True)
class Shape:
    """Sizes of a model.

    Attributes:
        body: weights that every token is multiplied with.
        head: those of the output layer, for tokens of responses alone.
        total: all weights.
    """

    body: int
    head: int
    total: int

    @classmethod
    def of(cls, model: PreTrainedModel) -> Shape:
        """Those of a model, with or without weights."""
        parts: Any = model
        embedding, output = parts.get_input_embeddings().weight, parts.get_output_embeddings()
        head = embedding if output is None else output.weight
        total = model.num_parameters()
        outside = embedding.numel() + (0 if head is embedding else head.numel())
        return cls(body=total - outside, head=head.numel(), total=total)

    def flops(self, done: Work, sizes: Sizes) -> float:
        """Floating-point operations of some work: 2 for each weight and token, 6 with gradients; attention's products apart."""
        prompt = 2.0 * self.body * sizes.prompt_tokens
        response = 2.0 * (self.body + self.head) * sizes.response_tokens
        longest = 2.0 * (self.body + self.head) * sizes.limit
        passes = (3 * done.trained + done.scored) * (prompt + response)
        return passes + done.read * prompt + done.generated * (prompt + longest)


@dataclass(frozen=True)
class Speed:
    """What passes take on this machine.

    Attributes:
        trained, scored, read, generated: seconds for a response or prompt, as in :class:`Work`.
        step: seconds of a step of the optimizer.
        memory: peak while they were timed, in bytes.
        trainable: number of weights that are trained.
    """

    trained: float
    scored: float
    read: float
    generated: float
    step: float
    memory: int
    trainable: int

    def seconds(self, done: Work) -> float:
        """Those of some work."""
        parts = (done.trained * self.trained, done.scored * self.scored, done.read * self.read, done.generated * self.generated)
        return sum(parts) + done.steps * self.step


def timed(line: Pipeline, sizes: Sizes, store: Store) -> Speed:
    """Time a few training steps, and passes without gradients, on random tokens of the data's mean lengths."""
    from aloll_cli.models.logprobs import ResponseLogps

    settings = line.settings
    with tempfile.TemporaryDirectory() as folder:
        job = Job(Path(folder), store, store.runtime, store.world, store.log, store.stopper)
        reference = line.reference
        start = reference.start if isinstance(reference, TrainedPolicy) else reference
        tokenizer, model = line.tokenizer.load(job), start.load(job, line.numbers.in_full)
    if settings.adapter is not None:
        settings.adapter.prepare(model, settings.seed)
    module = ResponseLogps(model, settings.model.head is Head.chunked, settings.gradient_checkpointing)
    rows = min(MOST_ROWS, settings.micro_batch_size)
    prompt, response = max(1, round(sizes.prompt_tokens)), max(1, round(sizes.response_tokens))
    draw, device = torch.Generator().manual_seed(0), store.world.device
    ids = torch.randint(len(tokenizer), (rows, prompt + response), generator=draw).to(device)
    ones = torch.ones_like(ids)
    whole = (ids[:, :prompt], ones[:, :prompt], ids[:, prompt:], ones[:, prompt:])
    optimizer = settings.optimizer.build(module.parameters())

    def passes() -> None:
        with line.numbers.computing(device):
            module(*whole).mean().backward()

    module.set_to_train(dropout=False)
    trained = _median(passes)
    step = _median(optimizer.step)
    optimizer.zero_grad()
    module.eval()
    with torch.inference_mode(), line.numbers.computing(device):
        scored = _median(lambda: module(*whole))
        read = _median(lambda: model.base_model(input_ids=ids[:, :prompt], use_cache=False))
    generation = settings.generation
    count = max(1, min(MOST_ROWS, settings.scoring_batch_tokens // (prompt + sizes.limit) // generation.sequences))
    first, more = (_generating(model, tokenizer, ids[:count, :prompt], generation, tokens) for tokens in TOKENS)
    each = max(0.0, (more - first) / (TOKENS[1] - TOKENS[0]))
    generated = (first + each * max(0, sizes.limit - TOKENS[0])) / count
    return Speed(
        trained=trained / rows,
        scored=scored / rows,
        read=read / rows,
        generated=generated,
        step=step,
        memory=_peak_memory(device),
        trainable=sum(weights.numel() for weights in module.parameters() if weights.requires_grad),
    )


def _generating(model: PreTrainedModel, tokenizer: Any, prompts: torch.Tensor, generation: Any, tokens: int) -> float:
    """Seconds to generate so many tokens for each of some prompts (B, P)."""
    ids, none = [str(i) for i in range(len(prompts))], torch.zeros(len(prompts), dtype=torch.long, device=prompts.device)
    generate: Any = model.generate

    def run() -> None:
        generate(
            input_ids=prompts,
            attention_mask=torch.ones_like(prompts),
            do_sample=False,
            num_beams=generation.sequences,
            min_new_tokens=tokens,
            max_new_tokens=tokens,
            logits_processor=generation.processors(ids, "0", none),
            pad_token_id=tokenizer.pad_token_id,
        )

    with torch.inference_mode():
        return _median(run)


def _median(action: Callable[[], object]) -> float:
    """Median seconds, after one call that is not counted."""
    seconds = []
    for _ in range(REPEATS + 1):
        start = time.perf_counter()
        action()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


def _peak_memory(device: torch.device) -> int:
    import resource

    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def shape_of(line: Pipeline, store: Store) -> Shape:
    """The sizes of the model, without loading it."""
    with tempfile.TemporaryDirectory() as folder:
        job = Job(Path(folder), store, store.runtime, store.world, store.log, store.stopper)
        return Shape.of(line.settings.model.empty(line.tokenizer.load(job)))


def rough_seconds(flops: float, generating: float) -> float:
    """Seconds on the CPU of some floating-point operations, of which a part in generation, by the rate of a matrix product."""
    a = torch.randn(SIDE, SIDE)
    rate = 2.0 * SIDE**3 / _median(lambda: a @ a) * SHARE
    return (flops + (SLOWER - 1) * generating) / rate


def rough(line: Pipeline, last: Artifact, store: Store) -> float:
    """Seconds on the CPU of everything that is left until ``last`` is there, without loading the model; to a factor of some 2."""
    sizes, shape = Sizes.of(line.examples, store), shape_of(line, store)
    left = sum(left_of(last, store, sizes).values(), Work())
    return rough_seconds(shape.flops(left, sizes), shape.flops(Work(generated=left.generated), sizes))


def left_of(last: Artifact, store: Store, sizes: Sizes) -> dict[Artifact, Work]:
    """The work of each artifact that is not there, up to the last, in the order in which they are built."""
    planned = [*upstream(last), last]
    done = {artifact: work(artifact, sizes) for artifact in planned if not store.is_complete(artifact)}
    return {artifact: found for artifact, found in done.items() if found != Work()}
