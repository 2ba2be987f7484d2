"""Sharded training: every process holds its share of each weight, gradient and optimizer state (torch's fully_shard)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, Shard

from aloll_cli.errors import UserError
from aloll_cli.training.checkpoints import SHARDS
from aloll_cli.training.parallel import Parallel

if TYPE_CHECKING:
    from aloll_cli.models.logprobs import ResponseLogps
    from aloll_cli.models.optimizers import Adamw
    from aloll_cli.runtime.world import World


class Fsdp(Parallel):
    """Every process holds a share of every tensor, and the whole of a layer while it computes that.

    All processes compute the same layers at the same time. So a process with fewer micro-batches than another takes part in
    the others', and evaluation and generation, where each process does as much as it has to, gather all weights before.
    """

    holds_whole = False

    def __init__(self, module: ResponseLogps, optimizer: Adamw, world: World) -> None:
        """Shard a model in place.

        Raises:
            UserError: this PyTorch cannot, or a parameter was left whole.
        """
        if not hasattr(FSDPModule, "reset_iter_state"):
            raise UserError(f"strategy=fsdp: PyTorch {torch.__version__} is too old for it.", "pip install -U torch")
        mesh = init_device_mesh(world.device.type, (world.size,))
        self._inner, self._world = module, world
        try:
            for part in [*layers(module.model), module]:
                fully_shard(part, mesh=mesh)
        except (ValueError, NotImplementedError) as error:  # scalars, weights that are not contiguous
            raise UserError(
                f"strategy=fsdp: PyTorch cannot shard {type(module.model).__name__}: {error}", "strategy=ddp"
            ) from None
        self.module = cast(Any, module)
        self._parts = [part for part in module.modules() if isinstance(part, FSDPModule)]
        for part in self._parts:
            part.set_gradient_divide_factor(1.0)  # gradients are sums over processes
            part.set_force_sum_reduction_for_comms(True)  # gloo knows no other
        with torch.no_grad():
            module.smallest()  # the first that computes becomes the root, which gathers what is in no layer
        self.module.reshard()  # and would keep it
        check_sharded(module, world)
        self.optimizer = optimizer.build(module.parameters())

    def accumulating(self, last: bool) -> AbstractContextManager[Any]:
        """Nothing: gradients are added up in shards, for whole ones would need as much memory as whole weights."""
        return nullcontext()

    def backward(self, loss: Tensor) -> None:
        loss.backward()  # type: ignore[no-untyped-call]

    def missing(self, count: int) -> int:
        return int(max(self._world.gather(count))) - count

    def take_part(self, missing: int) -> None:
        for _ in range(missing):
            self.backward(0.0 * self._inner.smallest().sum())

    def clip(self, max_norm: float | None) -> float:
        norm: Any = nn.utils.clip_grad_norm_(self._inner.parameters(), math.inf if max_norm is None else max_norm)
        return float(norm.full_tensor())

    @contextmanager
    def whole(self) -> Iterator[None]:
        root = self.module
        root.set_reshard_after_forward(False)
        for part in self._parts:
            part.unshard()
        try:
            yield
        finally:
            root.reset_iter_state()  # shards again, and forgets the order in which each process has computed
            root.set_reshard_after_forward(True)
            root.set_reshard_after_forward(False, recurse=False)  # the backward pass begins with it

    def gathered(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """One tensor after the other: no process holds more than its share and a tensor, the main process the result, too."""
        whole: dict[int, Tensor] = {}  # tied weights stay tied
        for weight in weights.values():
            if id(weight) not in whole:
                full = weight.full_tensor() if isinstance(weight, DTensor) else weight
                whole[id(weight)] = full.detach().cpu() if self._world.is_main else torch.empty(0)
        return {name: whole[id(weight)] for name, weight in weights.items()} if self._world.is_main else {}

    def save(self, folder: Path | None) -> None:
        from aloll_cli.training.shards import save_scalars, save_tensors

        if folder is not None:
            (folder / SHARDS).mkdir()
        place = Path(self._world.gather(None if folder is None else str(folder.resolve()))[0])
        save_tensors(place, self._inner, self.optimizer, self._world.rank)
        self._world.wait()
        if folder is not None:
            save_scalars(folder, self._inner, self.optimizer)

    def load(self, folder: Path) -> None:
        from aloll_cli.training.shards import load

        load(folder, self._inner, self.optimizer)


def layers(model: Any) -> list[nn.Module]:
    """The repeated blocks of a model of transformers, inner ones first; what is in none of them belongs to the root."""
    names = set(model._no_split_modules or ())
    found: list[nn.Module] = [part for part in model.modules() if type(part).__name__ in names]
    return found[::-1]


def check_sharded(module: nn.Module, world: World) -> None:
    """Raises UserError unless every parameter is spread over all processes by its first dimension."""
    for name, weight in module.named_parameters():
        if not isinstance(weight, DTensor) or weight.placements != (Shard(0),) or weight.device_mesh.size() != world.size:
            raise UserError(f"strategy=fsdp left {name} whole in every process.", "strategy=ddp")
        rows, most = weight.to_local().shape[0], -(-weight.shape[0] // world.size)
        if rows > most:
            raise UserError(f"strategy=fsdp: this process holds {rows} of {weight.shape[0]} rows of {name}.", "strategy=ddp")
