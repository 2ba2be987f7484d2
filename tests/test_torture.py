"""scripts/torture.py with a small model: a kill at a random moment."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from running import SMALL

SCRIPT = Path(__file__).parents[1] / "scripts" / "torture.py"


@pytest.mark.slow
def test_a_kill_at_a_random_moment_changes_no_bit(tmp_path: Path):
    command = [sys.executable, SCRIPT, "--pipelines=1", "--kills=1", "--seed=2", f"--folder={tmp_path}", "--", *SMALL]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    kills, inside = re.search(r"^(\d+) kills, (\d+) of them inside a checkpoint write", done.stdout, re.MULTILINE).groups()
    assert int(kills) >= 1
    assert int(inside) <= int(kills)
    pipelines = re.search(r"^(\d+) of (\d+) pipelines equal bit for bit", done.stdout, re.MULTILINE).groups()
    assert pipelines[0] == pipelines[1] >= "1"
    assert len(re.findall(r"^  \d+ × resuming ", done.stdout, re.MULTILINE)) >= 1
