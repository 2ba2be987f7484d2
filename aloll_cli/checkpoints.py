"""Checkpoints of training: safetensors and JSON, never pickle, each written beside and renamed whole."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aloll_cli.files import read_json, write_json

if TYPE_CHECKING:
    import torch


def folders(root: Path) -> dict[int, Path]:
    """The complete checkpoints, by the number of updates they stand after, oldest first."""
    return {int(path.name.removeprefix("update-")): path for path in sorted(root.glob("update-*")) if path.is_dir()}


def write_folder(root: Path, update: int, write: Any) -> Path:
    """Let ``write(folder)`` fill ``update-<n>``, which appears by one rename."""
    final, beside = root / f"update-{update:07d}", root / f".update-{update:07d}.tmp"
    for stale in (beside, final):
        if stale.exists():
            shutil.rmtree(stale)
    beside.mkdir(parents=True)
    write(beside)
    beside.rename(final)
    return final


def keep_folders(root: Path, updates: set[int]) -> None:
    """Remove every folder but those of some updates, and whatever a kill left half-written or half-removed."""
    for update, folder in folders(root).items():
        if update not in updates:
            folder.rename(root / f".update-{update:07d}.tmp")
    for stale in root.glob(".update-*.tmp"):
        shutil.rmtree(stale)


def save_state(folder: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Weights and optimizer state."""
    from safetensors.torch import save_file, save_model

    save_model(model, str(folder / "model.safetensors"))
    state = optimizer.state_dict()
    tensors, values = {}, {}
    for index, entries in state["state"].items():
        for name, value in entries.items():
            if hasattr(value, "contiguous"):
                tensors[f"{index}.{name}"] = value.contiguous()
            else:
                values[f"{index}.{name}"] = value
    save_file(tensors, folder / "optimizer.safetensors")
    write_json(folder / "optimizer.json", {"values": values, "groups": state["param_groups"]})


def load_state(folder: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """The inverse of :func:`save_state`, in place."""
    from safetensors.torch import load_file, load_model

    load_model(model, str(folder / "model.safetensors"))
    kept = read_json(folder / "optimizer.json")
    state: dict[int, dict[str, Any]] = {}
    for key, value in [*load_file(folder / "optimizer.safetensors").items(), *kept["values"].items()]:
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": kept["groups"]})
