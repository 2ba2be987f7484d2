"""How responses are drawn from a policy."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aloll_cli.schema import COUNT, SEED, numbers

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import LogitsProcessorList


@dataclass(kw_only=True)
class Generation:
    """A way of decoding. The length limit and the stop strings are the task's."""

    repetition_penalty: float = field(metadata=numbers("(0, 100]", 1.2))

    @property
    def sequences(self) -> int:
        """How many responses to a prompt are followed at a time."""
        return 1

    @property
    def answers(self) -> int:
        """How many responses each prompt gets."""
        return 1

    def names(self, prompt: str) -> list[str]:
        """An id for each response to a prompt: the prompt's own, and the same with a number from the second on."""
        return [prompt, *(f"{prompt}-{number}" for number in range(2, self.answers + 1))]

    def processors(self, ids: list[str], step: int, padding: Tensor) -> LogitsProcessorList:
        """Logits processors after which the greatest logit is the token to take.

        Args:
            ids: (B,) names of the rows, which seed their randomness together with the step.
            step: 0, or the update of the policy while it trains.
            padding: (B,) how many tokens of padding each prompt begins with: they repeat nothing.
        """
        from transformers import LogitsProcessorList, RepetitionPenaltyLogitsProcessor

        if self.repetition_penalty == 1:
            return LogitsProcessorList()
        begins = padding.repeat_interleave(self.sequences)
        return LogitsProcessorList([RepetitionPenaltyLogitsProcessor(self.repetition_penalty, prompt_ignore_length=begins)])


@dataclass(kw_only=True)
class Greedy(Generation):
    """The likeliest token at each position."""


@dataclass(kw_only=True)
class Beam(Generation):
    """The likeliest of the responses that a beam search finds, by mean log-prob per token."""

    beams: int = field(metadata=numbers("[2, 1024]", 2))

    @property
    def sequences(self) -> int:
        return self.beams


@dataclass(kw_only=True)
class Sample(Generation):
    """Sampling from the nucleus of the distribution.

    A row's random numbers come from (seed, step, its id), whatever batch it is in; policy and reference answer a prompt
    with the same numbers, so their difference is measured with less noise.
    """

    samples: int = field(metadata=COUNT)  # a prompt
    seed: int = field(metadata=SEED)
    top_p: float = field(metadata=numbers("(0, 1]", 0.95))
    temperature: float = field(metadata=numbers("(0, 100]", 1.0))

    @property
    def answers(self) -> int:
        return self.samples

    def processors(self, ids: list[str], step: int, padding: Tensor) -> LogitsProcessorList:
        from transformers import LogitsProcessorList, TemperatureLogitsWarper

        from aloll_cli.models.inverse_cdf import InverseCdf

        warpers = [TemperatureLogitsWarper(self.temperature), InverseCdf(self.seed, step, ids, self.top_p)]
        return LogitsProcessorList([*super().processors(ids, step, padding), *warpers])
