"""The kind of device that a command computes on."""

from __future__ import annotations

from enum import Enum

from aloll_cli.errors import UserError

LARGE = 50_000_000  # weights


class Device(Enum):
    """What computes."""

    auto = "a GPU where PyTorch finds one, else the CPU"
    cuda = "a GPU; an error where PyTorch finds none"
    cpu = "the CPU"


_chosen = Device.auto


def choose(device: Device) -> None:
    """Set the device of this command, from ``device=``."""
    global _chosen
    _chosen = device


def uses_gpu() -> bool:
    """Whether this command computes on a GPU.

    Raises:
        UserError: ``device=cuda``, and PyTorch finds no GPU.
    """
    import torch

    if _chosen is Device.cpu:
        return False
    if _chosen is Device.cuda and not torch.cuda.is_available():
        built = "this PyTorch was built without CUDA" if torch.version.cuda is None else "PyTorch finds no GPU that it can use"
        hint = "device=auto, or PyTorch for your CUDA version: https://pytorch.org/get-started/locally"
        raise UserError(f"device=cuda: {built} (torch {torch.__version__}).", hint)
    return torch.cuda.is_available()


def faster_dtype(weights: int, in_32_bits: bool) -> str | None:
    """A hint for a model in 32 bits on a GPU that computes matrix products faster in 16; None where there is nothing to gain.

    It stays a hint: a dtype belongs to the recipe, and a recipe must not depend on the card.

    Args:
        weights: number of the model's weights; below 50 million, a GPU mostly waits for its next kernel.
        in_32_bits: whether the model computes in 32 bits.
    """
    import torch

    if not in_32_bits or weights < LARGE or not uses_gpu() or not torch.cuda.is_bf16_supported(including_emulation=False):
        return None
    return "this GPU computes faster in 16 bits, with results that round otherwise: model.dtype=bfloat16"
