"""scripts/bench_step.py at sizes that take no time."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "bench_step.py"
TINY = ["--vocab=300", "--prompt=8", "--batch=2", "--layers=1", "--hidden=32", "--alternations=1", "--warmup=0"]


def bench(folder: Path, *options: str) -> tuple[list[str], dict[str, Any]]:
    """What the script prints, line by line, and the figures it writes."""
    file = folder / "figures.json"
    command = [sys.executable, SCRIPT, *TINY, f"--json={file}", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.splitlines(), json.loads(file.read_text())


def test_every_step_and_ratio_has_a_row_and_equal_methods_have_equal_losses(tmp_path):
    lines, figures = bench(tmp_path, "--response=4")
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


def test_the_chunked_head_has_the_gradients_of_the_full_one(tmp_path):
    lines, figures = bench(tmp_path, "--chunked", "--response=150")  # 300 positions: two chunks
    assert 0 < figures["gradient_error"] <= figures["worst_gradient_error"] <= 1e-5
    for head in ("full", "chunked"):
        assert sum(line.split()[:1] == [head] for line in lines) == 1, head
        assert figures["heads"][head]["seconds"] > 0
    assert any(line.startswith("extra peak, chunked / full") for line in lines)
    assert any(line.startswith("relative gradient error") for line in lines)
