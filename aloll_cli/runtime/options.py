"""Options that cannot change a result by more than rounding: how much is said, what is waited for, what runs where."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from aloll_cli.runtime.tracking import Tracking
from aloll_cli.schema import COUNT, OPERATIONAL, numbers


class Attention(Enum):
    """Who computes attention."""

    sdpa = "PyTorch"
    flash_attention_2 = "the package flash-attn, on a GPU"
    eager = "plain matrix products"


class Upstream(Enum):
    """What a stage does about artifacts it needs and that are missing."""

    make = "make them"
    require = "refuse, and say which stage makes them"


class Busy(Enum):
    """What a stage does about an artifact that another process is making."""

    wait = "wait for it"
    refuse = "say who it is, and leave"


class Verbosity(Enum):
    """How much is said on stderr."""

    quiet = "warnings and errors"
    normal = "what is made and how far it is"
    verbose = "versions, times, memory and what libraries say, too"


@dataclass(kw_only=True)
class Runtime:
    """Options that cannot change a result by more than rounding."""

    processes: int = field(metadata=OPERATIONAL | numbers("[1, 1024]"))
    threads: int | None = field(metadata=OPERATIONAL | numbers("[1, 4096]"))
    micro_batch_size: int = field(metadata=OPERATIONAL | COUNT)
    gradient_checkpointing: bool = field(metadata=OPERATIONAL)
    attn: Attention | None = field(metadata=OPERATIONAL)
    scoring_batch_tokens: int = field(metadata=OPERATIONAL | COUNT)
    checkpoint_every: int = field(metadata=OPERATIONAL | COUNT)
    keep_checkpoints: int = field(metadata=OPERATIONAL | COUNT)
    max_hours: float | None = field(metadata=OPERATIONAL | numbers("(0, inf)", 8.0))
    upstream: Upstream = field(metadata=OPERATIONAL)
    busy: Busy = field(metadata=OPERATIONAL)
    verbosity: Verbosity = field(metadata=OPERATIONAL)
    tracking: Tracking = field(metadata=OPERATIONAL)
