"""Checkpoints whose tensors are spread over processes: torch's safetensors format, which any number of processes can read.

Each process writes files with its rows of every tensor and where they begin. Scalars, such as AdamW's steps, are JSON.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader as Reader
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter as Writer
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.distributed.checkpoint.planner import SavePlan
from torch.distributed.checkpoint.state_dict_loader import load as load_tensors
from torch.distributed.checkpoint.state_dict_saver import save as write_tensors
from torch.distributed.tensor import DTensor

from aloll_cli.files import read_json, write_json
from aloll_cli.training.checkpoints import SHARDS, foreign, is_shared, trained

SCALARS = "scalars.json"
LARGEST = 2**26  # bytes of a file that holds more than one tensor; torch makes a copy of a file before it writes that


def save_tensors(folder: Path, module: torch.nn.Module, optimizer: torch.optim.Optimizer, rank: int) -> None:
    """Write this process's rows of the trained weights and of the optimizer's state of each; on disk when this returns."""
    tensors: dict[str, DTensor] = {}
    for name, weight in trained(module).items():
        states = {f"{name}/{key}": value for key, value in optimizer.state[weight].items() if not is_scalar(value)}
        tensors |= {name: cast(DTensor, weight.detach())} | states
    with _alone():
        writer = _OwnFiles(folder / SHARDS, rank, _files(tensors))
        write_tensors(tensors, storage_writer=writer, planner=_OwnRows(), no_dist=True)


def _files(tensors: dict[str, DTensor]) -> dict[str, int]:
    """The number of the file that each tensor goes to, from 1 on."""
    found, number, room = {}, 0, 0
    for name, tensor in tensors.items():
        size = tensor.to_local().nbytes
        if size > room:
            number, room = number + 1, LARGEST
        found[name], room = number, room - size
    return found


def save_scalars(folder: Path, module: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Write the optimizer's numbers, which are the same in every process."""
    states = {name: optimizer.state[weight].items() for name, weight in trained(module).items()}
    scalars = {f"{name}/{key}": float(value) for name, items in states.items() for key, value in items if is_scalar(value)}
    write_json(folder / SCALARS, scalars)


def is_scalar(value: Any) -> bool:
    """Whether an optimizer's state is one number."""
    return not isinstance(value, Tensor) or value.ndim == 0


def load(folder: Path, module: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Load a checkpoint in place, whoever wrote it: processes that share tensors, or one that had them whole.

    Raises:
        UserError: the checkpoint is of another model.
    """
    shared = is_shared(folder)
    place = folder / SHARDS if shared else folder
    weights = trained(module)
    tensors: dict[str, Tensor] = {name: weight.detach() for name, weight in weights.items()}
    try:
        scalars = {key: torch.tensor(number) for key, number in read_json(folder / SCALARS).items()} if shared else {}
        stored = Reader(str(place)).read_metadata().state_dict_metadata
        for key, found in stored.items():
            name, _, state = key.rpartition("/")
            if name in weights and isinstance(found, TensorStorageMetadata):
                empty = torch.zeros(()) if not found.size else torch.empty_like(weights[name])
                tensors[key] = optimizer.state[weights[name]][state] = empty
        with _alone():
            load_tensors(tensors, storage_reader=Reader(str(place)), no_dist=True)
        for key, number in scalars.items():
            name, _, state = key.rpartition("/")
            optimizer.state[weights[name]][state] = number
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise foreign(folder, error) from None


class _OwnFiles(Writer):
    """Writes the files of one process. torch's own numbers processes in a message between them."""

    def __init__(self, folder: Path, rank: int, files: dict[str, int]) -> None:
        super().__init__(str(folder), save_distributed=True)
        self._storage = {"shard_index": rank + 1, "fqn_to_index_mapping": files}

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        return [replace(plan, storage_data=self._storage) for plan in plans]


class _OwnRows(DefaultSavePlanner):
    """Plans the rows of one process. torch's own compares the plans of all, for which it would send them pickled."""

    def create_global_plan(self, all_plans: list[SavePlan]) -> tuple[list[SavePlan], Metadata]:
        return all_plans, Metadata({})


@contextmanager
def _alone() -> Iterator[None]:
    """What torch does in a process for itself: without a warning that it does, and with the errors that it wraps."""
    try:
        with warnings.catch_warnings(action="ignore", category=UserWarning):
            yield
    except CheckpointException as error:
        raise next(iter(error.failures.values()))[0] from None
