"""Training checkpoints: safetensors and JSON, never pickle, written atomically."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aloll_cli.errors import UserError
from aloll_cli.files import read_json, remove_tree, sync, write_json

if TYPE_CHECKING:
    import torch


NAME = re.compile(r"update-([0-9]{7}|[1-9][0-9]{7,})")


def folders(root: Path) -> dict[int, Path]:
    """The complete checkpoints by step, oldest first; folders with other names, such as copies of a user, are none."""
    steps = sorted(int(found[1]) for path in root.glob("update-*") if (found := NAME.fullmatch(path.name)) and path.is_dir())
    return {step: folder_of(root, step) for step in steps}


def folder_of(root: Path, update: int) -> Path:
    """Where a step's checkpoint is, or will be; found without a list of names, which NFS may have from before."""
    return root / f"update-{update:07d}"


def write_folder(root: Path, update: int, write: Callable[[Path], object]) -> None:
    """Create ``update-<step>`` atomically; ``write(folder)`` writes its files, and syncs them."""
    final, temporary = folder_of(root, update), root / f".update-{update:07d}.tmp"
    for stale in (temporary, final):
        if stale.exists():
            remove_tree(stale)
    temporary.mkdir(parents=True)
    write(temporary)
    temporary.rename(final)
    sync(root)


def keep_folders(root: Path, updates: set[int]) -> None:
    """Remove all folders except those of some steps, and incomplete ones that a killed process left."""
    for update, folder in folders(root).items():
        if update not in updates:
            folder.rename(root / f".update-{update:07d}.tmp")
    for stale in root.glob(".update-*.tmp"):
        remove_tree(stale)


SHARDS = "shards"  # in a checkpoint of processes that share tensors (shards.py)


def is_shared(folder: Path) -> bool:
    """Whether processes that share tensors wrote a checkpoint."""
    return (folder / SHARDS).is_dir()


def trained(module: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """The weights that are trained, by name."""
    return {name: weight for name, weight in module.named_parameters() if weight.requires_grad}


def foreign(folder: Path, error: Exception) -> UserError:
    """What to say of a checkpoint that cannot be loaded."""
    hint = f"Remove it, and repeat the command: {shlex.join(['rm', '-r', str(folder)])}"
    return UserError(f"{folder} is no checkpoint of this model: {error}.", hint)


def save_state(folder: Path, module: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Save the trainable weights and the optimizer's state of each."""
    from safetensors.torch import save_file

    weights = trained(module)
    save_file({name: weight.detach().contiguous() for name, weight in weights.items()}, folder / "weights.safetensors")
    tensors, numbers, places = {}, {}, set()
    for name, weight in weights.items():
        for key, value in optimizer.state[weight].items():
            if hasattr(value, "contiguous"):
                # 8-bit states share one table, and safetensors refuses to write the same memory twice
                tensors[f"{name}/{key}"] = value.clone() if value.data_ptr() in places else value.contiguous()
                places.add(value.data_ptr())
            else:
                numbers[f"{name}/{key}"] = value
    save_file(tensors, folder / "optimizer.safetensors")
    write_json(folder / "optimizer.json", numbers)


def load_state(folder: Path, module: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Load what :func:`save_state` wrote, in place. Optimizer options such as lr are not loaded; the configuration sets them.

    Raises:
        UserError: the checkpoint is of another model.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    weights = trained(module)
    try:
        for name, stored in load_file(folder / "weights.safetensors").items():
            weights[name].data.copy_(stored)
        for place, number in read_json(folder / "optimizer.json").items():
            name, _, key = place.rpartition("/")
            optimizer.state[weights[name]][key] = number
        for place, tensor in load_file(folder / "optimizer.safetensors").items():
            name, _, key = place.rpartition("/")
            optimizer.state[weights[name]][key] = _placed(tensor, weights[name], optimizer)
    except (SafetensorError, LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise foreign(folder, error) from None


def _placed(tensor: torch.Tensor, weight: torch.nn.Parameter, optimizer: Any) -> torch.Tensor:
    """A state tensor where the optimizer expects it: step counts on the CPU, states of a paged optimizer in paged memory."""
    if tensor.ndim == 0:
        return tensor
    if getattr(optimizer, "is_paged", False) and tensor.shape == weight.shape:
        pages: torch.Tensor = optimizer.get_state_buffer(weight, dtype=tensor.dtype)
        return pages.copy_(tensor)
    return tensor.to(weight.device)
