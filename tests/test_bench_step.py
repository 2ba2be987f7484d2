"""scripts/bench_step.py at sizes that take no time."""

import json
import sys
from pathlib import Path
from typing import Any

import bench_step
import pytest
import torch

TINY = ["--vocab=300", "--prompt=8", "--batch=2", "--layers=1", "--hidden=32", "--alternations=1", "--warmup=0"]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch, capsys):
    """Runs the script; returns what it prints, line by line, and the figures it writes."""

    def run(*options: str) -> tuple[list[str], dict[str, Any]]:
        file = tmp_path / "figures.json"
        monkeypatch.setattr(sys, "argv", ["bench_step.py", *TINY, f"--json={file}", *options])
        bench_step.main()
        return capsys.readouterr().out.splitlines(), json.loads(file.read_text())

    threads = torch.get_num_threads()
    yield run
    torch.set_num_threads(threads)


def test_every_step_and_ratio_has_a_row_and_equal_methods_have_equal_losses(bench):
    lines, figures = bench("--response=4")
    rows = ["nll", "seq", "labels", "two models", "seq / nll", "labels / seq", "two models / seq"]
    for name in rows:
        assert sum(line[:16].strip() == name for line in lines) == 1, name
    steps, ratios = figures["steps"], figures["ratios"]
    assert [*steps, *ratios] == rows
    assert all(0 < row["min"] <= row["median"] <= row["max"] for row in [*steps.values(), *ratios.values()])
    assert ratios["two models / seq"]["median"] == pytest.approx(steps["two models"]["median"] / steps["seq"]["median"])
    assert steps["nll"]["loss"] == pytest.approx(steps["labels"]["loss"], rel=1e-5)
    assert steps["seq"]["loss"] == pytest.approx(steps["two models"]["loss"], rel=1e-5)
    assert steps["seq"]["loss"] != pytest.approx(steps["nll"]["loss"], rel=1e-2)
    assert figures["setup"]["response"] == 4
    assert all(str(figures["machine"][key]) in lines[0] for key in ("torch", "transformers", "cpu"))


@pytest.mark.slow
def test_the_chunked_head_has_the_gradients_of_the_full_one(bench):
    lines, figures = bench("--chunked", "--response=150")  # 300 positions: two chunks
    assert 0 < figures["gradient_error"] <= figures["worst_gradient_error"] <= 1e-5
    for head in ("full", "chunked"):
        assert sum(line.split()[:1] == [head] for line in lines) == 1, head
        assert figures["heads"][head]["seconds"] > 0
    assert any(line.startswith("extra peak, chunked / full") for line in lines)
    assert any(line.startswith("relative gradient error") for line in lines)
