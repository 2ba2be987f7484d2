"""How responses are drawn from a policy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aloll_cli.config import SEED, numbers

if TYPE_CHECKING:
    from transformers import LogitsProcessorList


@dataclass(kw_only=True)
class Generation(ABC):
    """A way of decoding. The length limit is the task's ``max_response_tokens``."""

    @abstractmethod
    def processors(self, ids: list[str], step: int) -> LogitsProcessorList:
        """Logits processors after which the greatest logit is the token to take.

        Args:
            ids: (B,) names of the rows, which seed their randomness together with the step.
            step: 0, or the update of the policy while it trains.
        """


@dataclass(kw_only=True)
class Greedy(Generation):
    """The likeliest token at each position."""

    def processors(self, ids: list[str], step: int) -> LogitsProcessorList:
        from transformers import LogitsProcessorList

        return LogitsProcessorList()


@dataclass(kw_only=True)
class Sample(Generation):
    """Sampling from the nucleus of the distribution.

    A row's random numbers come from (seed, step, its id), whatever batch it is in; policy and reference answer a prompt
    with the same numbers, so their difference is measured with less noise.
    """

    seed: int = field(metadata=SEED)
    top_p: float = field(metadata=numbers("(0, 1]", 0.95))
    temperature: float = field(metadata=numbers("(0, 100]", 1.0))

    def processors(self, ids: list[str], step: int) -> LogitsProcessorList:
        from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopPLogitsWarper

        from aloll_cli.generation import InverseCdf

        warpers = [TemperatureLogitsWarper(self.temperature), TopPLogitsWarper(self.top_p)]
        return LogitsProcessorList([*warpers, InverseCdf(self.seed, step, ids)])
