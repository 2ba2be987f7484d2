"""Options that change results by rounding at most: processes, memory, waiting, verbosity."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from aloll_cli.runtime.device import Device
from aloll_cli.runtime.tracking import Tracking
from aloll_cli.schema import COUNT, OPERATIONAL, numbers


class Attention(Enum):
    """The implementation of attention."""

    sdpa = "PyTorch's scaled_dot_product_attention"
    flash_attention_2 = "the package flash-attn; needs a GPU"
    eager = "plain matrix products in PyTorch"


class Strategy(Enum):
    """What each of several processes holds of a model in training."""

    ddp = "all of it; gradients are averaged"
    fsdp = "its share of each weight, gradient and optimizer state; a layer is gathered while it computes"


class Batching(Enum):
    """How responses are generated together."""

    padded = "batches of prompts of similar length, each as long as its longest response"
    continuous = "where a response has ended, the next prompt begins"


class Upstream(Enum):
    """What a stage does if an artifact that it needs is missing."""

    make = "build it"
    require = "exit with an error that names the stage that builds it"


class Busy(Enum):
    """What a stage does if another process is building an artifact that it needs."""

    wait = "wait until it is built"
    refuse = "exit with an error that names the process"


class Verbosity(Enum):
    """How much is logged to stderr."""

    quiet = "warnings and errors"
    normal = "artifacts and progress, too"
    verbose = "versions, memory and messages of libraries, too"


@dataclass(kw_only=True)
class Runtime:
    """Options that change results by rounding at most."""

    processes: int = field(metadata=OPERATIONAL | numbers("[1, 1024]"))
    strategy: Strategy = field(metadata=OPERATIONAL)
    device: Device = field(metadata=OPERATIONAL)
    threads: int | None = field(metadata=OPERATIONAL | numbers("[1, 4096]"))
    micro_batch_size: int = field(metadata=OPERATIONAL | COUNT)
    gradient_checkpointing: bool = field(metadata=OPERATIONAL)
    deterministic: bool = field(metadata=OPERATIONAL)
    attn: Attention | None = field(metadata=OPERATIONAL)
    scoring_batch_tokens: int = field(metadata=OPERATIONAL | COUNT)
    generation_batching: Batching = field(metadata=OPERATIONAL)
    checkpoint_every: int = field(metadata=OPERATIONAL | COUNT)
    keep_checkpoints: int = field(metadata=OPERATIONAL | COUNT)
    max_hours: float | None = field(metadata=OPERATIONAL | numbers("(0, inf)", 8.0))
    upstream: Upstream = field(metadata=OPERATIONAL)
    busy: Busy = field(metadata=OPERATIONAL)
    verbosity: Verbosity = field(metadata=OPERATIONAL)
    tracking: Tracking = field(metadata=OPERATIONAL)
