"""The shipped code of entries, of what drives them, and of training has fingerprints, written down in aloll_cli/code.json.

Where code changed so that a result changes, raise the ``version`` of its class; for training/ and the optimizers that of
TrainedPolicy, and of TrainedReference where π_ref changes too, but for reward_loop.py that of FinetunedReward; for what drives
rewards and tasks that of Rewards and Examples. Where it only reads better, do not. Then write the fingerprints down:
python tests/test_code.py
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import aloll_cli
from aloll_cli.artifacts.examples import Examples
from aloll_cli.artifacts.finetuned_reward import FinetunedReward
from aloll_cli.artifacts.policy import TrainedPolicy
from aloll_cli.artifacts.rewards import Rewards
from aloll_cli.settings.groups import GROUPS
from aloll_cli.source_code import ROOMS, SHIPPED, code_fingerprint, code_identity, key_of, remember

ROOT = Path(aloll_cli.__file__).parent
ENTRIES = [cls for group in ("task", "reward", "variant", "values") for cls in GROUPS[group].values()]
DRIVERS = {"rewards.scoring": Rewards, "tasks.selection": Examples}  # modules of the rooms that no entry imports
TRAINING = [f"training.{name}" for name in sorted(file.stem for file in (ROOT / "training").glob("*.py")) if name != "__init__"]
OTHERS = {"training.reward_loop": FinetunedReward}  # whose version it is where it is not that of TrainedPolicy


def found():
    """By entry or module, its version and the fingerprint of its code."""
    for package in ("training", "models"):
        remember(f"aloll_cli.{package}", ROOT / package)
    told = {key_of(cls): {"version": cls.version, "code": code_fingerprint(cls.__module__, ROOMS)} for cls in ENTRIES}
    for name, artifact in DRIVERS.items():
        told[name] = {"version": artifact.version, "code": code_fingerprint(f"aloll_cli.{name}", ROOMS)}
    for name in ("models.optimizers", *TRAINING):
        code = code_fingerprint(f"aloll_cli.{name}", (f"aloll_cli.{name.partition('.')[0]}",))
        told[name] = {"version": OTHERS.get(name, TrainedPolicy).version, "code": code}
    return told


def test_code_that_changed_has_another_version_or_was_written_down_again():
    assert found() == json.loads(SHIPPED.read_text()), "see the beginning of this file"


@pytest.mark.slow
def test_every_module_of_the_rooms_and_of_training_is_part_of_a_fingerprint():
    from aloll_cli import source_code

    reached = set()
    for name in found():
        left = [f"aloll_cli.{name}"]
        while left:
            module = left.pop()
            if module in source_code._texts and module not in reached:
                reached.add(module)
                left += source_code._imported(module, source_code._parsed(source_code._texts[module]))
    rooms = (*ROOMS, "aloll_cli.training")
    there = {m for m in source_code._texts if m.startswith(tuple(f"{room}." for room in rooms))}
    assert len(there) > 50
    assert there - reached == set()


@pytest.mark.slow
def test_shipped_entries_add_nothing_to_a_recipe_but_raised_versions():
    assert {key_of(cls): code_identity(cls) for cls in ENTRIES if code_identity(cls)} == {
        key_of(cls): {"version": cls.version} for cls in ENTRIES if cls.version != 1
    }


ENTRY = '''"""An entry."""
from math import log as measure

from .helpers import half, third
from . import helpers
from .lib import power
import pack.absolute as absolute

LIMIT = 3

class Entry:
    """Says what it is."""

    def loss(self, x):
        """Half of it."""
        from .late import shift

        return half(x) + LIMIT + getattr(helpers, "quarter")(x) + power(x) + shift(x) + absolute.far(x)  # a comment
'''
FILES = {
    "entry.py": ENTRY,
    "helpers.py": '"""Helpers."""\nfrom .more import *\n\ndef half(x):\n    return x / 2\n\ndef third(x):\n    return x / 3\n\n'
    "def quarter(x):\n    return far_away(x) / 4\n",
    "more.py": "def far_away(x):\n    return x\n",
    "lib/__init__.py": "from .impl import power\n",
    "lib/impl.py": "try:\n    BASE = 2\nexcept ImportError:\n    BASE = 3\n\ndef power(x):\n    return x**BASE\n",
    "late.py": "TABLE = []\nTABLE.append(1)\n\ndef shift(x):\n    return x + TABLE[0]\n",
    "absolute.py": "def far(x):\n    return x * 1e6\n",
    "unrelated.py": "def other(x):\n    return x\n",
}
SAME = {
    "a comment": ("entry.py", "# a comment", "# another one"),
    "a docstring": ("entry.py", "Half of it.", "A half."),
    "no docstring": ("entry.py", '    """Says what it is."""\n', ""),
    "white space": ("entry.py", "half(x) + LIMIT", "( half( x )\n            + LIMIT )"),
    "a docstring of a module": ("helpers.py", '"""Helpers."""', '"""Other helpers."""'),
    "a module that is not imported": ("unrelated.py", "return x", "return -x"),
}
OTHER = {
    "a sign": ("entry.py", "+ LIMIT", "- LIMIT"),
    "a constant": ("entry.py", "LIMIT = 3", "LIMIT = 4"),
    "a type of a constant": ("entry.py", "LIMIT = 3", "LIMIT = 3.0"),
    "the library behind a name": ("entry.py", "from math import log as", "from math import exp as"),
    "swapped names": ("entry.py", "import half, third", "import third as half, half as third"),
    "a helper": ("helpers.py", "x / 2", "x / 5"),
    "a helper that is named in a string": ("helpers.py", "/ 4", "/ 5"),
    "a star import's module": ("more.py", "return x", "return -x"),
    "a helper that is exported again": ("lib/impl.py", "x**BASE", "x * BASE"),
    "a constant in a try": ("lib/impl.py", "BASE = 2", "BASE = 4"),
    "a list that is filled": ("late.py", "append(1)", "append(2)"),
    "a module that is imported by its full name": ("absolute.py", "1e6", "1e7"),
}
SCRIPT = """
import sys; sys.path.insert(0, {project!r})
from pathlib import Path
from aloll_cli.source_code import code_fingerprint, remember
remember("pack", Path("pack"))
print(code_fingerprint("pack.entry", ["pack"]))
"""
PYTHON = [SCRIPT.format(project=str(ROOT.parent))]


def told(folder, change=None, python=sys.executable):
    for name, text in FILES.items():
        file = folder / "pack" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if change is not None and change[0] == name:
            assert change[1] in text
            text = text.replace(change[1], change[2])
        file.write_text(text)
    return subprocess.run([python, "-c", *PYTHON], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return told(tmp_path_factory.mktemp("plain"))


@pytest.mark.parametrize("change", SAME.values(), ids=SAME)
def test_what_cannot_change_a_result_leaves_the_fingerprint_alone(change, tmp_path, plain):
    assert told(tmp_path, change) == plain


@pytest.mark.parametrize("change", OTHER.values(), ids=OTHER)
def test_what_can_change_a_result_changes_the_fingerprint(change, tmp_path, plain):
    assert told(tmp_path, change) != plain


def test_the_fingerprint_is_the_same_on_all_versions_of_python(plain):
    # worked out on 3.11, 3.12 and 3.13
    assert plain == "f094db05c63b"


def test_the_code_that_was_imported_counts_and_not_what_its_file_has_become(tmp_path):
    script = PYTHON[0] + 'Path("pack/entry.py").write_text("LIMIT = 9")\nprint(code_fingerprint("pack.entry", ["pack"]))\n'
    told(tmp_path)
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    before, after = done.stdout.split()
    assert before == after


if __name__ == "__main__":
    SHIPPED.write_text(json.dumps(found(), indent=1) + "\n")
