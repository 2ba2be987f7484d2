"""Decoding: how responses are generated, and where."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aloll_cli.errors import UserError
from aloll_cli.schema import COUNT, OPERATIONAL, SEED, identity, numbers

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import LogitsProcessorList


@dataclass(frozen=True)
class Servers:
    """Servers of policies.

    Attributes:
        urls: their addresses.
        model: the name of the policy there; None: it is looked for.
        requests: at a time.
    """

    urls: list[str]
    model: str | None
    requests: int


@dataclass(kw_only=True)
class Generation:
    """A decoding strategy. The length limit and the stop strings belong to the task."""

    repetition_penalty: float = field(metadata=numbers("(0, 100]", 1.2))

    @property
    def servers(self) -> Servers | None:
        """The servers that hold the policies, or None: models generate in this process."""
        return None

    def request(self, name: str, stream: str) -> dict[str, Any]:
        """The decoding options of a server's request for a row of this name; the stream is that of ``processors``."""
        return {"temperature": 0.0, "top_p": 1.0}

    @property
    def sequences(self) -> int:
        """Sequences per prompt that are decoded in parallel: the number of beams."""
        return 1

    @property
    def samples_per_prompt(self) -> int:
        """Samples per prompt."""
        return 1

    def names(self, prompt: str) -> list[str]:
        """The id of each sample of a prompt: the prompt's own, and with a number from the second on."""
        return [prompt, *(f"{prompt}-{number}" for number in range(2, self.samples_per_prompt + 1))]

    def processors(self, ids: list[str], stream: str, padding: Tensor) -> LogitsProcessorList:
        """Logits processors after which the greatest logit is the token to take.

        Args:
            ids: (B,) ids of the rows, which seed their random numbers together with the stream.
            stream: names a stream of random numbers: other streams have other numbers for the same ids.
            padding: (B,) number of padding tokens before each prompt, which the repetition penalty ignores.
        """
        from transformers import LogitsProcessorList

        from aloll_cli.models.repetition import RepetitionPenalty

        if self.repetition_penalty == 1:
            return LogitsProcessorList()
        return LogitsProcessorList([RepetitionPenalty(self.repetition_penalty, padding.repeat_interleave(self.sequences))])


@dataclass(kw_only=True)
class Servable(Generation):
    """A decoding strategy that servers offer, too."""

    server: Any = field(default=None, metadata=OPERATIONAL)  # a URL or a list of them; recipes say that there is one
    server_model: str | None = field(default=None, metadata=OPERATIONAL)
    server_requests: int = field(default=16, metadata=OPERATIONAL | COUNT)

    def __post_init__(self) -> None:
        urls = self.servers.urls if self.servers else []
        for url in urls:
            if not isinstance(url, str) or not url.startswith(("http://", "https://")):
                raise UserError(f"generation.server={url} is no address.", "generation.server=http://localhost:8000/v1")
        if urls and self.repetition_penalty != 1:
            raise UserError(
                "generation.server: servers understand different things by a repetition penalty, so none is asked for.",
                "generation.repetition_penalty=1",
            )

    @property
    def servers(self) -> Servers | None:
        if not self.server:
            return None
        return Servers(
            list(self.server) if isinstance(self.server, list) else [self.server], self.server_model, self.server_requests
        )


@dataclass(kw_only=True)
class Greedy(Servable):
    """The most likely token at each position."""


@dataclass(kw_only=True)
class Beam(Generation):
    """Beam search; the best response by mean log-prob per token."""

    beams: int = field(metadata=numbers("[2, 1024]", 2))

    @property
    def sequences(self) -> int:
        return self.beams


@dataclass(kw_only=True)
class Sample(Servable):
    """Nucleus sampling (Holtzman et al. 2020).

    The random numbers of a row depend on (seed, stream, its id), and not on its batch. Policy and reference use the same numbers
    for a prompt, which reduces the variance of their difference.
    """

    samples: int = field(metadata=COUNT)  # per prompt
    seed: int = field(metadata=SEED)
    top_p: float = field(metadata=numbers("(0, 1]", 0.95))
    temperature: float = field(metadata=numbers("(0, 100]", 1.0))

    @property
    def samples_per_prompt(self) -> int:
        return self.samples

    def request(self, name: str, stream: str) -> dict[str, Any]:
        digits = hashlib.sha256(f"{self.seed}/{stream}/{name}".encode()).digest()
        return {"temperature": self.temperature, "top_p": self.top_p, "seed": int.from_bytes(digits[:4]) >> 1}

    def processors(self, ids: list[str], stream: str, padding: Tensor) -> LogitsProcessorList:
        from transformers import LogitsProcessorList, TemperatureLogitsWarper

        from aloll_cli.models.inverse_cdf import InverseCdf

        warpers = [TemperatureLogitsWarper(self.temperature), InverseCdf(self.seed, stream, ids, self.top_p)]
        return LogitsProcessorList([*super().processors(ids, stream, padding), *warpers])


def decoding_identity(generation: Generation) -> dict[str, Any]:
    """The part of a recipe that says how responses are generated; samples and beams share the prefill of their prompt."""
    is_shared = generation.samples_per_prompt * generation.sequences > 1
    return {"generation": identity(generation)} | ({"prefill": "shared"} if is_shared else {})
