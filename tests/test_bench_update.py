"""scripts/bench_update.py at sizes that take no time."""

import bench_update
import pytest


@pytest.mark.slow
@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_three_ways_of_an_update_have_one_loss_and_each_its_figures(quantization):
    setup = bench_update.Setup(
        layers=1, hidden=128, mlp=128, vocab=300, prompt=8, response=4, micro_batch=2, micro_batches=2, rank=4, updates=1,
        warmup=0, quantization=quantization, threads=1,
    )  # fmt: skip
    figures = bench_update.compare(setup)
    full, chunked, two = (figures["ways"][name] for name in ("full head", "chunked head", "two models"))
    assert chunked["loss"] == pytest.approx(full["loss"], rel=1e-2)  # bf16
    assert two["loss"] == pytest.approx(full["loss"], rel=1e-2)
    for way in (full, chunked, two):
        assert way["tokens_per_s"] == pytest.approx(2 * 2 * 12 / way["seconds"]["median"])
        assert way["peak_mib"] > way["before_mib"] - 1 > 0
        assert way["share_of_matmul"] > 0
    assert figures["weights"] == 7 * 128 * 128 + 300 * 128
    assert len(bench_update.lines(figures)) == 6
