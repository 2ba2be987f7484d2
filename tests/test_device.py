"""Which device computes: device=auto, cuda or cpu."""

import re

import pytest
import torch

from aloll_cli.errors import UserError
from aloll_cli.runtime import device
from aloll_cli.runtime.device import Device, choose, faster_dtype, uses_gpu
from aloll_cli.runtime.world import Alone


@pytest.fixture(autouse=True)
def unchanged(monkeypatch):
    monkeypatch.setattr(device, "_chosen", Device.auto)


def seen(monkeypatch, has_gpu):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)


@pytest.mark.parametrize(
    ("chosen", "has_gpu", "expected"),
    [(Device.auto, True, "cuda"), (Device.auto, False, "cpu"), (Device.cpu, True, "cpu"), (Device.cuda, True, "cuda")],
)
def test_a_gpu_is_used_where_there_is_one_and_not_against_the_users_choice(monkeypatch, chosen, has_gpu, expected):
    seen(monkeypatch, has_gpu)
    choose(chosen)
    assert uses_gpu() == (expected == "cuda")
    assert Alone().device.type == expected


@pytest.mark.parametrize(
    ("cuda", "why"), [(None, "this PyTorch was built without CUDA"), ("13.0", "PyTorch finds no GPU that it can use")]
)
def test_a_gpu_that_is_not_there_is_refused_with_the_reason(monkeypatch, cuda, why):
    seen(monkeypatch, has_gpu=False)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    choose(Device.cuda)
    with pytest.raises(UserError, match=rf"^device=cuda: {why} \(torch {re.escape(torch.__version__)}\)\.\ndevice=auto, or"):
        uses_gpu()


@pytest.mark.parametrize(
    ("has_gpu", "supported", "weights", "in_32_bits", "is_said"),
    [
        (True, True, 135_000_000, True, True),
        (True, False, 135_000_000, True, False),
        (True, True, 135_000_000, False, False),
        (True, True, 5_000_000, True, False),
        (False, True, 135_000_000, True, False),
    ],
)
def test_16_bits_are_proposed_where_a_gpu_computes_faster_in_them(monkeypatch, has_gpu, supported, weights, in_32_bits, is_said):
    seen(monkeypatch, has_gpu)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: supported)
    hint = faster_dtype(weights, in_32_bits)
    assert (hint is not None) == is_said
    assert not is_said or hint.endswith("model.dtype=bfloat16")
