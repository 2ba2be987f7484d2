"""The shipped code of entries, the loop and the sampler has fingerprints, written down in aloll_cli/code.json.

Where code changed so that a result changes, raise the ``version`` of its class (of TrainedPolicy for the loop and the sampler);
where it only reads better, do not. Then write the fingerprints down: python tests/test_code.py
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from aloll_cli.artifacts.policy import TrainedPolicy
from aloll_cli.settings.groups import GROUPS
from aloll_cli.source_code import SHIPPED, code_fingerprint, code_identity, key_of, package_of

ENTRIES = [cls for group in ("task", "reward", "variant", "values") for cls in GROUPS[group].values()]
LOOP = ("loop.Trainer", "sampling.BatchSampler", "rollouts.Rollouts", "sources.LoggedUnits")  # all of training/


def found():
    """By entry, its version and the fingerprint of its code."""
    entries = {
        key_of(cls): {"version": cls.version, "code": code_fingerprint(cls.__module__, cls.__name__, package_of(cls.__module__))}
        for cls in ENTRIES
    }
    for name in LOOP:
        module, _, top = f"aloll_cli.training.{name}".rpartition(".")
        code = code_fingerprint(module, top, "aloll_cli.training")
        entries[f"training.{name}"] = {"version": TrainedPolicy.version, "code": code}
    return entries


def test_code_that_changed_has_another_version_or_was_written_down_again():
    assert found() == json.loads(SHIPPED.read_text()), "see the beginning of this file"


def test_every_entry_has_a_fingerprint_of_its_own():
    codes = [entry["code"] for entry in found().values()]
    assert None not in codes
    assert len(set(codes)) == len(codes) > 35


def test_shipped_entries_add_nothing_to_a_recipe_but_raised_versions():
    assert {key_of(cls): code_identity(cls) for cls in ENTRIES if code_identity(cls)} == {
        key_of(cls): {"version": cls.version} for cls in ENTRIES if cls.version != 1
    }


def module(folder, text):
    """A package of one module with a class, a helper and a base that stands in another module."""
    package = folder / "pack"
    package.mkdir(exist_ok=True)
    (package / "__init__.py").write_text("")
    (package / "helpers.py").write_text('"""Helpers."""\n\ndef half(x):\n    return x / 2\n\ndef unused(x):\n    return x\n')
    (package / "entry.py").write_text(text)


TEXT = '''"""An entry."""
from pack.helpers import half
from pack import helpers

LIMIT = 3

class Entry:
    """Says what it is."""

    def loss(self, x):
        """Half of it."""
        return half(x) + LIMIT  # a comment
'''
SAME = {
    "a comment": TEXT.replace("# a comment", "# another one"),
    "a docstring": TEXT.replace("Half of it.", "A half."),
    "no docstring": TEXT.replace('    """Says what it is."""\n', ""),
    "white space": TEXT.replace("half(x) + LIMIT", "( half( x )\n            + LIMIT )"),
    "an import": TEXT.replace("import half\n", "import half, unused\n"),
    "something else": TEXT + "\ndef other():\n    return 5\n",
}
OTHER = {
    "a sign": TEXT.replace("+ LIMIT", "- LIMIT"),
    "a constant": TEXT.replace("LIMIT = 3", "LIMIT = 4"),
    "a helper of another module": TEXT.replace("half(x)", "helpers.unused(x)"),
    "a type of a constant": TEXT.replace("LIMIT = 3", "LIMIT = 3.0"),
}
SCRIPT = """
import sys; sys.path[:0] = [{project!r}, "."]
from aloll_cli.source_code import code_fingerprint
print(code_fingerprint("pack.entry", "Entry", "pack"))
"""


def told(folder, text, python=sys.executable):
    module(folder, text)
    script = SCRIPT.format(project=str(Path(SHIPPED).parent.parent))
    done = subprocess.run([python, "-c", script], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize("change", SAME)
def test_what_cannot_change_a_result_leaves_the_fingerprint_alone(change, tmp_path):
    assert told(tmp_path, SAME[change]) == told(tmp_path, TEXT)


@pytest.mark.parametrize("change", OTHER)
def test_what_can_change_a_result_changes_the_fingerprint(change, tmp_path):
    assert told(tmp_path, OTHER[change]) != told(tmp_path, TEXT)


def test_a_helper_that_changes_in_its_own_module_changes_the_fingerprint(tmp_path):
    before = told(tmp_path, TEXT)
    helpers = tmp_path / "pack" / "helpers.py"
    script = SCRIPT.format(project=str(Path(SHIPPED).parent.parent))
    for old, new, same in (("return x\n", "return -x\n", True), ("x / 2", "x / 3", False)):
        helpers.write_text(helpers.read_text().replace(old, new))
        done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert (done.stdout.strip() == before) is same


if __name__ == "__main__":
    SHIPPED.write_text(json.dumps(found(), indent=1) + "\n")
