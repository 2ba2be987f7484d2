"""strategy=fsdp: processes that share weights, gradients and optimizer states train what one process trains."""

import multiprocessing
import os
import socket
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate import PartialState
from safetensors.torch import load_file, save_file
from test_logprobs import batch, rows
from tiny import composed, gpt2, llama
from torch.distributed.tensor import DTensor
from torch.testing import assert_close
from transformers import AutoModelForCausalLM

from aloll_cli.errors import UserError
from aloll_cli.models.adapters import Lora
from aloll_cli.models.logprobs import ResponseLogps
from aloll_cli.models.optimizers import Adamw, Schedule
from aloll_cli.models.saving import policy_weights, save_policy
from aloll_cli.runtime.device import Device, choose
from aloll_cli.runtime.world import Distributed, part
from aloll_cli.settings.checks import check
from aloll_cli.training.fsdp import Fsdp, check_sharded
from aloll_cli.training.parallel import Single
from aloll_cli.training.rollouts import InitialWeights

OPTIMIZER = Adamw(
    lr=1e-2, betas=[0.9, 0.999], eps=1e-3, weight_decay=0.1, schedule=Schedule.constant, warmup_updates=0, eight_bit=False,
    paged=False, max_grad_norm=1.0,
)  # fmt: skip
ROWS = [(3, 9), (12, 2), (5, 5), (1, 8), (4, 4), (2, 7)]


def tied():
    return ResponseLogps(gpt2(dropout=0.0))


def chunked():
    return ResponseLogps(llama(), chunked=True, recompute=True)


def adapted():
    model = llama()
    Lora(r=2, alpha=4.0, dropout=0.0, targets=None).prepare(model, 1)
    return ResponseLogps(model)


def halved():
    """Frozen weights in 16 bits, and an adapter in 32."""
    model = llama().to(torch.bfloat16)
    Lora(r=2, alpha=4.0, dropout=0.0, targets=None).prepare(model, 1)
    return ResponseLogps(model)


# with products in 32 bits, and in 16
MORE = [(tied, True), (chunked, False), (chunked, True), (adapted, False), (adapted, True), (halved, True)]


def train(parallel, steps, rank=0, size=1, first=0, autocast=False):
    """Losses and gradient norms of some steps; this process has every ``size``-th row, one a micro-batch."""
    chosen, found = rows(ROWS), []
    for step in range(first, first + steps):
        mine = [chosen[i] for i in range(step % 2, len(chosen))][rank::size]  # every second step 5 rows: uneven shares
        parallel.module.train()
        total, missing = 0.0, parallel.missing(len(mine))
        for number, row in enumerate(mine):
            with parallel.accumulating(number == len(mine) - 1):
                with torch.autocast("cpu", torch.bfloat16) if autocast else nullcontext():
                    loss = -batch([row]).logps(parallel.module).sum() / 6
                parallel.backward(loss)
            total += float(loss.detach())
        parallel.take_part(missing)
        norm = parallel.clip(OPTIMIZER.max_grad_norm)
        parallel.optimizer.step()
        parallel.optimizer.zero_grad()
        found.append((total, norm))
    return found


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def in_processes(size, act, *arguments):
    """Call ``act(world, …)`` in forked processes with a process group; raises what any of them raises."""
    context, port = multiprocessing.get_context("fork"), free_port()
    workers = [context.Process(target=_joined, args=(rank, size, port, act, arguments)) for rank in range(size)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0


def _joined(rank, size, port, act, arguments):
    joined = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in joined.items()})
    choose(Device.cpu)
    PartialState._reset_state()  # of the process that was forked
    world = Distributed()
    act(world, *arguments)
    world.wait()
    part()


def assert_same_training(world, make, expected, weights, autocast):
    fsdp = Fsdp(make(), OPTIMIZER, world)
    found = train(fsdp, len(expected), world.rank, world.size, autocast=autocast)
    for (part_of_loss, norm), (loss, expected_norm) in zip(found, expected, strict=True):
        assert world.sum(part_of_loss) == pytest.approx(loss, rel=1e-5)
        assert norm == pytest.approx(expected_norm, rel=1e-4)
    with fsdp.whole():
        assert not any(isinstance(weight, DTensor) for weight in fsdp.module.parameters())
        for name, weight in fsdp.module.named_parameters():
            assert_close(weight.detach(), weights[name], atol=1e-5, rtol=0, msg=name)
    check_sharded(fsdp.module, world)
    assert sum(weight.to_local().numel() for weight in fsdp.module.parameters()) < 0.52 * sum(map(torch.numel, weights.values()))


CASES = [(tied, False), *(pytest.param(*case, marks=pytest.mark.slow) for case in MORE)]


@pytest.mark.parametrize(("make", "autocast"), CASES)
def test_two_processes_that_share_a_model_train_what_one_trains(make, autocast):
    single = Single(make(), OPTIMIZER)
    expected = train(single, 4, autocast=autocast)
    weights = {name: weight.detach().clone() for name, weight in single.module.named_parameters()}
    in_processes(2, assert_same_training, make, expected, weights, autocast)


def save_and_go_on(world, folder, make):
    """Train, save, train on."""
    fsdp = Fsdp(make(), OPTIMIZER, world)
    train(fsdp, 2, world.rank, world.size)
    fsdp.save(folder / "shared" if world.is_main else None)
    with fsdp.whole():  # evaluations use weights as each process likes
        for _ in range(world.rank + 1):
            batch(rows(ROWS)).logps(fsdp.module)
    train(fsdp, 2, world.rank, world.size, first=2)
    whole = fsdp.gathered(policy_weights(fsdp.module.model))
    assert bool(whole) == world.is_main
    if world.is_main:
        save_file({name: weight.clone() for name, weight in whole.items()}, folder / "then.safetensors")
        save_policy(fsdp.module.model, Nothing(), folder / "policy", whole)


class Nothing:
    def save_pretrained(self, folder):
        """A tokenizer is saved beside the weights."""


def saved_by_two(folder, make):
    """What two processes train, saved in the middle and at the end; returns the weights of the end."""
    (folder / "shared").mkdir()
    in_processes(2, save_and_go_on, folder, make)
    return load_file(folder / "then.safetensors")


def load_and_go_on(world, folder, checkpoint, make):
    fsdp = Fsdp(make(), OPTIMIZER, world)
    fsdp.load(folder / checkpoint)
    train(fsdp, 2, world.rank, world.size, first=2)
    whole = fsdp.gathered(policy_weights(fsdp.module.model))
    if world.is_main:
        assert_all_close(whole, load_file(folder / "then.safetensors"))


def assert_all_close(found, expected):
    assert found.keys() == expected.keys()
    for name, weight in expected.items():
        assert_close(found[name].detach(), weight, atol=1e-5, rtol=0, msg=name)


@pytest.mark.parametrize("make", [tied, pytest.param(adapted, marks=pytest.mark.slow)])
def test_a_checkpoint_of_two_processes_goes_on_in_three_and_in_one(tmp_path, make):
    then = saved_by_two(tmp_path, make)
    names = sorted(str(file.relative_to(tmp_path)) for file in (tmp_path / "shared").rglob("*.*"))
    assert [Path(name).suffix for name in names] == [".json", ".safetensors", ".safetensors"]
    single = Single(make(), OPTIMIZER)
    single.load(tmp_path / "shared")
    train(single, 2, first=2)
    assert_all_close(policy_weights(single.module.model), then)
    in_processes(3, load_and_go_on, tmp_path, "shared", make)


@pytest.mark.slow
@pytest.mark.parametrize("make", [tied, adapted])
def test_a_checkpoint_of_one_process_goes_on_in_three(tmp_path, make):
    saved_by_two(tmp_path, make)
    single = Single(make(), OPTIMIZER)
    train(single, 2)
    (tmp_path / "whole").mkdir()
    single.save(tmp_path / "whole")
    in_processes(3, load_and_go_on, tmp_path, "whole", make)


@pytest.mark.slow
def test_what_is_gathered_opens_in_transformers_with_its_weights_tied(tmp_path):
    then = saved_by_two(tmp_path, tied)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "policy")
    assert model.lm_head.weight is model.transformer.wte.weight
    assert_all_close(dict(model.state_dict()), then)


def swap(world):
    """π_ref is the adapter's initial weights."""
    module = adapted()
    reference = InitialWeights(module.model)
    fsdp = Fsdp(module, OPTIMIZER, world)
    with torch.no_grad(), fsdp.whole():
        before = batch(rows()).logps(module)
    train(fsdp, 2, world.rank, world.size)
    with torch.no_grad(), fsdp.whole():
        after = batch(rows()).logps(module)
        with reference(module) as initial:
            assert_close(batch(rows()).logps(initial), before, atol=1e-6, rtol=0)
        assert_close(batch(rows()).logps(module), after, atol=0, rtol=0)
        assert (after - before).abs().max() > 1e-3


@pytest.mark.slow
def test_the_initial_weights_of_a_shared_adapter_are_the_reference():
    in_processes(2, swap)


def test_a_parameter_that_was_left_whole_is_refused_by_name():
    world = SimpleNamespace(size=2)
    with pytest.raises(UserError, match=r"strategy=fsdp left model.transformer.wte.weight whole in every process"):
        check_sharded(tied(), world)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["model=pretrained", "model.path=x", "model.quantization=nf4"], "layers in nf4 cannot be shared"),
        (["optimizer.eight_bit=true"], "optimizer.eight_bit=true: bitsandbytes' optimizers do not share"),
        (["reference.optimizer.paged=true"], "reference.optimizer.paged=true: bitsandbytes' optimizers do not share"),
    ],
)
def test_what_cannot_be_shared_is_refused_by_name(words, said):
    settings = composed(*words, "strategy=fsdp")
    with pytest.raises(UserError, match=said):
        check(settings, ["policy", "reference"])
