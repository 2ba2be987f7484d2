"""How responses are drawn from a policy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aloll_cli.errors import UserError

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

    seed: int
    top_p: float
    temperature: float

    def __post_init__(self) -> None:
        if not 0 < self.top_p <= 1:
            raise UserError(f"generation.top_p must lie in (0, 1], got {self.top_p}.", "generation.top_p=0.95")
        if self.temperature <= 0:
            raise UserError(f"generation.temperature must be positive, got {self.temperature}.", "generation=greedy")

    def processors(self, ids: list[str], step: int) -> LogitsProcessorList:
        from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopPLogitsWarper

        from aloll_cli.generation import InverseCdf

        warpers = [TemperatureLogitsWarper(self.temperature), TopPLogitsWarper(self.top_p)]
        return LogitsProcessorList([*warpers, InverseCdf(self.seed, step, ids)])
