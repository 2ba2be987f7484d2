"""V(x) that is learned together with the policy (values=joint)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from aloll_cli.training.checkpoints import load_state, save_state

if TYPE_CHECKING:
    from aloll_cli.arrays import FloatArray, IntArray
    from aloll_cli.runtime.world import World
    from aloll_cli.variants.base import Batch, Regression

FOLDER = "values"  # in a checkpoint


class JointValues:
    """What is added to the initial V(x): a linear function of features of the prompt, 0 before training.

    Every process has the same, and learns from all responses of a step.
    """

    def __init__(self, variant: Regression, features: Tensor, prompts: IntArray, targets: FloatArray, lr: float) -> None:
        """An addition of 0.

        Args:
            variant: says how much too large V(x) is.
            features: (G, F) fp32, of each prompt.
            prompts: (N,) index of the prompt of each response.
            targets: (N,) the targets of the responses with the initial V(x), A = R − V(x) in some unit.
            lr: learning rate of AdamW.
        """
        self._variant = variant
        self._seen: list[tuple[int, float]] = []  # rows of a step, and how much too large V(x) is for each
        scale = features.std(dim=0, correction=0).clamp(min=1e-6) * features.shape[1] ** 0.5
        self._features, self._prompts, self._targets = (features - features.mean(dim=0)) / scale, prompts, targets.copy()
        self._added = nn.Linear(features.shape[1], 1)
        nn.init.zeros_(self._added.weight)
        nn.init.zeros_(self._added.bias)
        self._optimizer = torch.optim.AdamW(self._added.parameters(), lr=lr, weight_decay=0.0)

    def targets(self, rows: IntArray) -> FloatArray:
        """(B,) R − V(x) of some responses, with the V of now."""
        found: FloatArray = self._targets[rows] - self._of(rows).detach().double().numpy()
        return found

    def observe(self, rows: IntArray, batch: Batch) -> None:
        """See a micro-batch of this process."""
        self._seen += zip(rows.tolist(), self._variant.value_errors(batch).tolist(), strict=True)

    def learn(self, world: World) -> dict[str, float]:
        """One step on the mean of ½ (V − R + τ h)² over all processes, whose gradient by V is the error V − R + τ h."""
        every = sorted(pair for part in world.gather(self._seen) for pair in part)
        self._seen = []
        rows, errors = (np.array(values) for values in zip(*every, strict=True))
        loss = (self._of(rows) * torch.tensor(errors, dtype=torch.float32)).mean()
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        return {"value_error": float(errors.mean())}

    def save(self, folder: Path) -> None:
        """Add its state to a checkpoint."""
        (folder / FOLDER).mkdir()
        save_state(folder / FOLDER, self._added, self._optimizer)

    def load(self, folder: Path) -> None:
        """The inverse of :meth:`save`."""
        load_state(folder / FOLDER, self._added, self._optimizer)

    def _of(self, rows: IntArray) -> Tensor:
        """(B,) with gradient."""
        added: Tensor = self._added(self._features[np.asarray(self._prompts[rows])])[:, 0]
        return added
