"""How π_ref, the reference policy, is obtained."""

from __future__ import annotations

from dataclasses import dataclass, field

from aloll_cli.errors import UserError
from aloll_cli.models.optimizers import Adamw
from aloll_cli.schema import COUNT, SEED, numbers

EPOCHS = numbers("(0, 1000000]", 1.0)


@dataclass(kw_only=True)
class Reference:
    """How π_ref is obtained."""


@dataclass(kw_only=True)
class Trained(Reference):
    """The model fine-tuned by NLL on the train split; the checkpoint with the lowest validation NLL is used."""

    seed: int = field(metadata=SEED)
    updates: int | None = field(metadata=COUNT)
    epochs: float | None = field(metadata=EPOCHS)
    batch_size: int = field(metadata=COUNT)
    eval_every: int = field(metadata=COUNT)
    optimizer: Adamw


@dataclass(kw_only=True)
class AsLoaded(Reference):
    """The model as it is loaded, without fine-tuning."""


def check_length(updates: int | None, epochs: float | None, prefix: str = "") -> None:
    """Raises UserError unless exactly one of updates and epochs is set."""
    if updates is None and epochs is None:
        raise UserError(f"{prefix}updates and {prefix}epochs are both null: one of them must be set.", f"{prefix}updates=400")
    if updates is not None and epochs is not None:
        raise UserError(
            f"{prefix}updates={updates} and {prefix}epochs={epochs:g} are both set: one of them must be null.",
            f"{prefix}updates=null {prefix}epochs={epochs:g}",
        )
