"""Freed memory is used again by the process."""

import json
import os
import subprocess
import sys

import pytest

CODE = """
import json, resource
from aloll_cli.runtime.memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        bytearray(64 * 2**20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

before = faults()
keep_freed_memory()
faults()
print(json.dumps([before, faults()]))
"""


def faults(**variables):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")} | variables
    return json.loads(subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, check=True).stdout)


@pytest.mark.slow
def test_freed_blocks_are_not_mapped_anew_unless_the_environment_says_how():
    before, after = faults()
    assert before > 100  # 4 KiB pages, or 2 MiB ones where the system has them
    assert after < before / 20
    before, after = faults(MALLOC_TRIM_THRESHOLD_="100000")
    assert after > before / 2
