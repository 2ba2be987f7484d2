"""Rollouts: responses that the policy generates during training and then learns from ."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from aloll_cli.training.batches import batch_logps
from aloll_cli.training.contracts import checked_advantages
from aloll_cli.training.responding import Responder
from aloll_cli.training.sampling import philox
from aloll_cli.training.sources import Rows, Source
from aloll_cli.variants.base import Online

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from aloll_cli.arrays import Float32Array, FloatArray, IntArray
    from aloll_cli.models.logprobs import ResponseLogps
    from aloll_cli.runtime.world import World
    from aloll_cli.text.examples import ExampleTable

FILE = "rollout.safetensors"


@dataclass(frozen=True)
class Rollout:
    """N generated responses with rewards and advantages, as saved in a checkpoint.

    Attributes:
        prompts: (N,) rows of the examples with the prompts.
        tokens: (M,) token ids of all responses, concatenated.
        offsets: (N + 1,) where each response begins.
        logps: (M,) fp32 ln π_old of these tokens.
        rewards, advantages: (N,)
        order: (E, N) the order of the responses in each epoch.
        reference: (M,) fp32 ln π_ref of these tokens; None if the method does not need them.
    """

    prompts: IntArray
    tokens: IntArray
    offsets: IntArray
    logps: Float32Array
    rewards: FloatArray
    advantages: FloatArray
    order: IntArray
    reference: Float32Array | None = None


@dataclass(frozen=True)
class RolloutResponses:
    """The tokens of a rollout's responses, by row."""

    examples: ExampleTable
    prompts: IntArray
    tokens: IntArray
    offsets: IntArray

    def __len__(self) -> int:
        return len(self.prompts)

    def prompt_ids(self, row: int) -> IntArray:
        return self.examples.prompt_ids(int(self.prompts[row]))

    def response_ids(self, row: int) -> IntArray:
        return self.tokens[self.offsets[row] : self.offsets[row + 1]]

    def prompt_lengths(self, rows: IntArray) -> IntArray:
        return self.examples.prompt_lengths(self.prompts[rows])

    def response_lengths(self, rows: IntArray) -> IntArray:
        return np.diff(self.offsets)[rows]


@dataclass(frozen=True)
class RolloutLogps:
    """(T,) log-probs of a response's tokens, by row."""

    logps: Float32Array
    offsets: IntArray

    @property
    def rows(self) -> IntArray:
        return np.arange(len(self.offsets) - 1)

    def row(self, index: int) -> Float32Array:
        return self.logps[self.offsets[index] : self.offsets[index + 1]]


ReferenceOf = Callable[["ResponseLogps"], AbstractContextManager["ResponseLogps"]]  # policy → π_ref


class InitialWeights:
    """Temporarily restores the trainable weights of now in a model: π_ref, if only an adapter is trained."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._weights = {name: weight.detach().clone() for name, weight in model.named_parameters() if weight.requires_grad}

    @contextmanager
    def __call__(self, module: ResponseLogps) -> Iterator[ResponseLogps]:
        self._swap(module.model)
        try:
            yield module
        finally:
            self._swap(module.model)

    def _swap(self, model: PreTrainedModel) -> None:
        """By name and value: sharding puts other parameters in the place of those that the model began with."""
        now = dict(model.named_parameters())
        for name, other in self._weights.items():
            kept = now[name].detach().clone()
            now[name].data.copy_(other)
            other.copy_(kept)


@dataclass
class Rollouts(Source):
    """Generates a rollout every few steps; these steps learn from it, from each response once per epoch.

    Attributes:
        responder: generates and scores responses.
        variant: its rollout size, epochs per rollout, and advantages.
        values: (G,) V_ref of each unique prompt.
        reference: policy module → a context with the module of π_ref.
        batch_size: responses per step; the rollout size is a multiple of it.
        pad: the padding token id.
        seed: of the choice and order of prompts; the decoding has its own seed.
    """

    responder: Responder
    variant: Online
    values: FloatArray
    reference: ReferenceOf
    batch_size: int
    pad: int
    seed: int
    kept = None
    _begins: int | None = field(init=False, default=None)  # step at which the current rollout begins
    _figures: dict[str, float] = field(init=False, default_factory=dict)

    @property
    def kept_units(self) -> int:  # type: ignore[override]
        """Units per epoch over the data: the responses to each prompt, each used ``variant.epochs`` times."""
        return len(self.responder.examples.groups[1]) * self.variant.per_prompt * self.variant.epochs

    def asks(self, update: int) -> bool:
        return update % self._updates == 0 and update != self._begins

    def prepare(self, update: int, module: ResponseLogps, world: World) -> dict[str, float]:
        """Generate a rollout if one begins at this step and does not exist yet."""
        if update % self._updates:
            return {}
        if self.asks(update):
            self._figures, self._begins = self._draw(update, module, world), update
        return self._figures

    def units(self, update: int) -> list[IntArray]:
        place = update % self._updates * self.batch_size
        epoch, start = divmod(place, self.variant.rollout_size)
        return [np.array([row]) for row in self._rollout.order[epoch, start : start + self.batch_size]]

    def save(self, folder: Path) -> None:
        from safetensors.numpy import save_file

        parts = {part.name: getattr(self._rollout, part.name) for part in fields(Rollout)}
        save_file({name: np.ascontiguousarray(part) for name, part in parts.items() if part is not None}, folder / FILE)

    def load(self, folder: Path) -> None:
        from safetensors.numpy import load_file

        self._learn_from(Rollout(**load_file(folder / FILE)))

    @property
    def _updates(self) -> int:
        """Training steps per rollout."""
        return self.variant.epochs * self.variant.rollout_size // self.batch_size

    def _draw(self, update: int, module: ResponseLogps, world: World) -> dict[str, float]:
        random, size = philox(self.seed, update), self.variant.rollout_size
        first = self.responder.examples.groups[1]
        count = self.variant.per_prompt
        drawn = random.choice(len(first), size // count, replace=len(first) < size // count)
        prompts = np.repeat(drawn, count)
        chosen = first[prompts]
        order = np.stack([random.permutation(size) for _ in range(self.variant.epochs)])
        mine = world.share(size, together=count)
        ids = self.responder.examples.ids(chosen[mine])
        asked = [(f"{name}/{i}", int(chosen[i])) for name, i in zip(ids, mine, strict=True)]
        responses, scores = self.responder.respond(module, asked, str(update), world)
        tokens = [response.ids for response in responses]
        rows = RolloutResponses(self.responder.examples, chosen[mine], *flattened(tokens))
        old = self._logps(module, rows)
        with self.reference(module) as reference:
            under_reference = self._logps(reference, rows)
        ratios = [(a - b).sum(dtype=np.float64) for a, b in zip(old, under_reference, strict=True)]
        listed = ([row.tolist() for row in logps] for logps in (old, under_reference))
        own = zip(mine, tokens, *listed, scores.tolist(), ratios, strict=True)
        every = sorted(row for part in world.gather(list(own)) for row in part)
        _, tokens, logps, reference_logps, *figures = map(list, zip(*every, strict=True))
        flat, flat_reference = (
            np.array([value for row in each for value in row], dtype=np.float32) for each in (logps, reference_logps)
        )
        rewards, log_ratios = map(np.array, figures)
        # after gathering, because a process's share has another mean than the whole rollout
        advantages = checked_advantages(self.variant, rewards, log_ratios, self.values[prompts])
        kept = flat_reference if self.variant.needs_reference else None
        self._learn_from(Rollout(chosen, *flattened(tokens), flat, rewards, advantages, order, kept))
        return {
            "samples": size, "sampled_tokens": len(flat), "sampled_reward": float(rewards.mean()),
            "kl_reference": float(log_ratios.mean()),
        }  # fmt: skip

    def _learn_from(self, rollout: Rollout) -> None:
        self._rollout = rollout
        responses = RolloutResponses(self.responder.examples, rollout.prompts, rollout.tokens, rollout.offsets)
        old = RolloutLogps(rollout.logps, rollout.offsets)
        reference = None if rollout.reference is None else RolloutLogps(rollout.reference, rollout.offsets)
        self.rows = Rows(responses, rollout.advantages, rollout.rewards, old, reference)

    def _logps(self, module: ResponseLogps, rows: RolloutResponses) -> list[Float32Array]:
        return batch_logps(module, rows, range(len(rows)), self.pad, self.responder.batch_tokens)


def flattened(tokens: list[list[int]]) -> tuple[IntArray, IntArray]:
    """(M,) token ids of N responses, concatenated, and (N + 1,) where each begins."""
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in tokens], dtype=np.int64)])
    return np.array([token for row in tokens for token in row], dtype=np.int64), offsets
