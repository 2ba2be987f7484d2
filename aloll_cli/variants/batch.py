"""What a loss is computed from: a batch of responses with their log-probs, weights and rewards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """A batch of B responses, padded to T tokens.

    Attributes:
        logps: (B, T) ln π_θ(y_t | x, y_<t), with gradient, 0 at padding.
        behaviour_logps: (B, T) log-probs under the behaviour policy (π_ref offline, π_old online), 0 at padding; None if the
            variant does not need them.
        weights: (B,) weights of the responses by the variant's signal (1, R, A⁺ or A), its targets, or a rollout's advantages.
        rewards: (B,) rewards R(x, y).
        group: (B,) index of the response's unit, 0 … U − 1; the responses of a unit are adjacent.
        mask: (B, T) 1 at real tokens, 0 at padding.
        reference_logps: (B, T) log-probs of rollouts under π_ref, 0 at padding; None if the variant does not need them.
        text: (B,) equal for responses of the same tokens; None: all differ.
        mismatched_log_ratios: (M,) Σ_t ln r_t, detached, of the step's prompts with responses to others; None if not needed.
    """

    logps: Tensor
    behaviour_logps: Tensor | None
    weights: Tensor
    rewards: Tensor
    group: Tensor
    mask: Tensor
    reference_logps: Tensor | None = None
    text: Tensor | None = None
    mismatched_log_ratios: Tensor | None = None

    @property
    def log_ratio(self) -> Tensor:
        """(B, T) ln r_t = ln π_θ(y_t) − ln π_behaviour(y_t), detached."""
        assert self.behaviour_logps is not None
        return self.logps.detach() - self.behaviour_logps

    @property
    def response_log_ratios(self) -> Tensor:
        """(B,) h = Σ_t ln r_t = ln π_θ(y | x) − ln π_behaviour(y | x), with gradient."""
        assert self.behaviour_logps is not None
        return (self.logps - self.behaviour_logps).sum(dim=-1)

    @property
    def preferred(self) -> Tensor:
        """(B, B) whether response i is preferred to response j: same unit, higher reward, other tokens."""
        preferred = (self.group[:, None] == self.group) & (self.rewards[:, None] > self.rewards)
        return preferred if self.text is None else preferred & (self.text[:, None] != self.text)

    def per_pair(self, values: Tensor) -> Tensor:
        """(B, B) values of pairs → (U,) the mean over the pairs of each unit whose first response is preferred to the second.

        Units without such a pair are not sampled.
        """
        return self.per_unit((values * self.preferred).sum(dim=-1)) / self.per_unit(self.preferred.sum(dim=-1))

    def log_softmax(self, scores: Tensor) -> Tensor:
        """(B,) the logarithm of the softmax of (B,) scores over the responses of each unit."""
        others = scores.expand(len(scores), -1).masked_fill(self.group[:, None] != self.group, -float("inf"))
        return scores - others.logsumexp(dim=-1)

    def per_unit(self, values: Tensor) -> Tensor:
        """(B,) values per response → (U,) sums per unit."""
        return values.new_zeros(int(self.group.max()) + 1).index_add(0, self.group, values)
