"""Averaging gradients over processes, so that resuming is bitwise reproducible with any number of them."""

import torch
from torch import Tensor
from torch import distributed as dist
from torch.distributed import GradBucket  # type: ignore[attr-defined]

PIECE = 1 << 22  # gradients that are gathered at once, of every process


def average_in_order_of_ranks(state: object, bucket: GradBucket) -> torch.futures.Future[Tensor]:
    """A communication hook of DistributedDataParallel: the mean of gradients, summed in the order of ranks.

    The usual all-reduce begins the sum of each part of a bucket with another rank, and DDP packs its buckets anew after the first
    step of a process. From three processes on, the first step after a resume would therefore round otherwise than it did.

    Args:
        state: not used.
        bucket: flat gradients of some parameters; they are overwritten.
    """
    flat, size = bucket.buffer(), dist.get_world_size()
    for piece in flat.split(PIECE):
        parts = [torch.empty_like(piece) for _ in range(size)]
        dist.all_gather(parts, piece)
        total = parts[0]
        for part in parts[1:]:
            total += part
        piece.copy_(total / size)
    found: torch.futures.Future[Tensor] = torch.futures.Future(devices=[flat.device] if flat.is_cuda else None)
    found.set_result(flat)
    return found
