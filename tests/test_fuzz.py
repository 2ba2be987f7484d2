"""Random command lines are composed or refused. The long run: ``python tests/fuzzing.py 5000``."""

import re
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_random_command_lines_are_composed_or_refused(tmp_path: Path):
    script = Path(__file__).with_name("fuzzing.py")
    done = subprocess.run([sys.executable, str(script), "30"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    total, accepted, refused = map(int, re.findall(r"\d+", done.stdout.splitlines()[-1]))
    assert total == accepted + refused >= 30
    assert min(accepted, refused) >= 5
