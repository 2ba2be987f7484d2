"""Entries from outside: a folder with one of each kind, from nothing to a run, edited, and built anew."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from running import SMALL, quick, run
from tiny import write_rows

import aloll_cli.cli
from aloll_cli import compose
from aloll_cli.cli.complete import completions
from aloll_cli.schema import name_of
from aloll_cli.settings.plugins import load_plugins

TABLE = json.loads(Path(aloll_cli.cli.__path__[0], "completion.json").read_text())
LINE = [option for option in SMALL if not option.startswith("values.")]  # a method without epochs

VARIANT = '''"""Advantage-weighted likelihood of the first tokens."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aloll_cli.schema import COUNT
from aloll_cli.variants.base import Batch, Pointwise

from .scales import doubled

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(kw_only=True)
class FirstTokens(Pointwise):
    """Learns from the first tokens of a response alone."""

    tokens: int = field(metadata=COUNT)

    def loss(self, batch: Batch) -> Tensor:
        first = batch.mask.cumsum(dim=1) <= self.tokens
        return -doubled(batch.weights) * (batch.logps * first).sum(dim=1)
'''
SCALES = "def doubled(x):\n    return 2 * x\n"
VARIANT_YAML = '# The first tokens of a response.\ndefaults: ["/schema/variant/first_tokens@_here_"]\ntokens: 5  # how many\n'
REWARD = '''"""How many exclamation marks a response has."""

from __future__ import annotations

from dataclasses import dataclass

from aloll_cli.rewards.base import Reward, Scorer


@dataclass(kw_only=True)
class Loud(Reward):
    """1 for a response with an exclamation mark, else 0.5."""

    @property
    def range(self):
        return 0.0, 1.0

    def scorer(self, state):
        return _Marks()


class _Marks(Scorer):
    def score(self, rows):
        import numpy as np

        return np.array([0.5 + 0.1 * len(row.response.split()) / 99 + 0.4 * ("!" in row.response) for row in rows])
'''
TASK = '''"""Notes: a question and what was noted down."""

from __future__ import annotations

from dataclasses import dataclass

from aloll_cli.tasks.base import Part, Record, Task, number, text_field


@dataclass(kw_only=True)
class Notes(Task):
    """Notes as responses to questions."""

    def records(self, row):
        return [Record((Part(text_field(row, "question") + "\\n"),), text_field(row, "note"), number(row.get("stars"), "stars"))]
'''
VALUES = '''"""The median reward."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aloll_cli.values.base import Estimate, Values


@dataclass(kw_only=True)
class Median(Values):
    """The median logged training reward for every prompt."""

    def estimate(self, evidence):
        return _Same(float(np.median(evidence.train.rewards)))


@dataclass(frozen=True)
class _Same(Estimate):
    value: float

    def of(self, split, logged, rows):
        return np.full(rows.stop - rows.start, self.value)
'''


def schema(group, name):
    return f'# Mine.\ndefaults: ["/schema/{group}/{name}@_here_"]\n'


def task_yaml():
    """A task's options, as the shipped one of the embedded reviews sets them."""
    import aloll_cli.conf

    shipped = (Path(aloll_cli.conf.__path__[0]) / "task" / "reviews.yaml").read_text()
    return shipped.replace("/schema/task/reviews@", "/schema/task/notes@")


@pytest.fixture
def mine(tmp_path):
    folder = tmp_path / "mine"
    files = {
        "variant/first_tokens.py": VARIANT, "variant/scales.py": SCALES, "variant/first_tokens.yaml": VARIANT_YAML,
        "reward/loud.py": REWARD, "reward/loud.yaml": schema("reward", "loud"),
        "task/notes.py": TASK, "task/notes.yaml": task_yaml(),
        "values/median.py": VALUES, "values/median.yaml": schema("values", "median"),
    }  # fmt: skip
    for name, text in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return folder


def edit(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def to_build(folder, *arguments):
    """What plan says is not there yet."""
    out, _ = quick(folder, "plan", *LINE, "plugins=[mine]", *arguments)
    lines = [line.split()[:2] for line in out.splitlines()]
    return {artifact.split("/")[0] for verb, artifact in lines if verb in ("build", "resume")}


@pytest.mark.slow
def test_entries_of_ones_own_run_and_are_built_anew_when_their_code_changes(tmp_path, mine):
    chosen = ("variant=first_tokens", "reward=loud", "values=median")
    out, _ = quick(tmp_path, "run", *LINE, "plugins=[mine]", *chosen)
    assert "first_tokens" in out
    assert to_build(tmp_path, *chosen) == set()
    edit(mine / "variant/first_tokens.py", "Learns from", "Has learned from")
    edit(mine / "variant/scales.py", "2 * x", "2 * x  # twice")
    assert to_build(tmp_path, *chosen) == set()
    edit(mine / "variant/scales.py", "2 * x", "3 * x")
    assert "policy" in to_build(tmp_path, *chosen)
    assert "values" not in to_build(tmp_path, *chosen)
    edit(mine / "values/median.py", "np.median(", "np.mean(")
    assert {"values", "policy"} <= to_build(tmp_path, *chosen)
    edit(mine / "reward/loud.py", "0.4 *", "0.3 *")
    assert {"rewards", "values", "policy", "metrics"} <= to_build(tmp_path, *chosen)
    assert "reference" not in to_build(tmp_path, *chosen)


@pytest.mark.slow
def test_a_task_of_ones_own_reads_its_rows_in_workers_and_sweeps_too(tmp_path, mine):
    for split, count in (("train", 40), ("validation", 12), ("test", 8)):
        notes = [("It is good!", 1), ("It is bad.", 0), ("It is rather bad.", 0)]
        rows = [{"question": f"{split} {i}?", "note": notes[i % 3][0], "stars": notes[i % 3][1]} for i in range(count)]
        write_rows(tmp_path / "rows" / f"{split}.jsonl", rows)
    line = ("task=notes", "task.path=rows", "reward=loud", "values=median", "plugins=[mine]", *LINE)
    quick(tmp_path, "train", *line, "variant=first_tokens", "processes=2")
    _, err = quick(tmp_path, "train", "-m", *line, "variant=first_tokens,nll", "processes=1")
    assert len(list((tmp_path / "outputs" / "notes" / "policy").glob("first_tokens-s1-*"))) == 1
    assert len(list((tmp_path / "outputs" / "notes" / "policy").glob("nll-s1-*"))) == 1


def refused(folder, *arguments):
    _, err = quick(folder, "ls", *arguments, code=2)
    return err


@pytest.mark.slow
def test_help_and_hints_know_entries_of_ones_own(tmp_path, mine):
    out, _ = quick(tmp_path, "train", "plugins=[mine]", "variant=first_tokens", "--cfg", "job")
    assert "tokens: 5" in out
    assert "Did you mean variant.tokens=3?" in refused(tmp_path, "plugins=[mine]", "variant=first_tokens", "variant.token=3")
    assert "variant.tokens must be at least 1, got 0" in refused(
        tmp_path, "plugins=[mine]", "variant=first_tokens", "variant.tokens=0"
    )
    assert "there is no such choice" in refused(tmp_path, "variant=first_tokens")


def test_what_is_wrong_with_a_plugin_is_said_with_file_and_line(tmp_path, mine):
    def said():
        return refused(tmp_path, "plugins=[mine]")

    file, text = mine / "values/median.py", VALUES
    for wrong, message in (
        (text + "\nimport nosuch_library\n", r"median.py, line 27: ModuleNotFoundError: No module named 'nosuch_library'"),
        (text.replace("class Median(", "class Median("[:-1] + " (("), r"median.py, line \d+: (?:.*never closed|invalid syntax)"),
        (text.replace("class Median", "class Mean"), r"median.py defines no class Median; it defines Mean"),
    ):
        file.write_text(wrong)
        assert re.search(message, said())
    file.write_text(text)
    (mine / "values/median.yaml").rename(mine / "values/mean.yaml")
    assert "median.py has no median.yaml beside it" in said()
    (mine / "values/mean.yaml").rename(mine / "values/median.yaml")
    (mine / "values/constant.py").write_text(text.replace("Median", "Constant"))
    (mine / "values/constant.yaml").write_text(schema("values", "constant"))
    assert "values=constant comes with aloll" in said()


@pytest.mark.slow
def test_plugins_are_named_on_the_command_line_as_folders_that_are_there(tmp_path, mine):
    assert "there is no folder nowhere" in refused(tmp_path, "plugins=[nowhere]")
    assert "there is no folder no where, really" in refused(tmp_path, "plugins=['no where, really']")
    for wrong in ("plugins=mine,more", "plugins=", "plugins=null", "plugins={a:b}"):
        assert "expected a folder or a list of folders" in refused(tmp_path, wrong)
    assert "expected a folder or a list of folders" in refused(tmp_path, "-m", "plugins=[mine],[mine]")
    assert "set twice" in refused(tmp_path, "plugins=[mine]", "plugins=[mine]")
    (tmp_path / "empty").mkdir()
    assert "has none of the folders variant, task, reward, values" in refused(tmp_path, "plugins=[empty]")
    (tmp_path / "yaml" / "experiment").mkdir(parents=True)
    (tmp_path / "yaml" / "experiment" / "own.yaml").write_text("# @package _global_\nplugins: [mine]\n")
    assert "On the command line: plugins=[mine]" in refused(tmp_path, "--config-dir", "yaml", "experiment=own")


@pytest.mark.slow
def test_the_code_of_a_received_configuration_is_never_run(tmp_path, mine):
    (mine / "values/scale.py").write_text("import pathlib\npathlib.Path('ran').touch()\n")
    (tmp_path / "config.yaml").write_text("plugins: [mine]\n")
    received = tmp_path / "outputs" / "reviews" / "metrics" / "seq-s1-test-0123456789ab"
    received.mkdir(parents=True)
    (received / "config.yaml").write_text("plugins: [mine]\n")
    for stage in ("ls", "plan"):
        quick(tmp_path, stage)
    quick(tmp_path, "compare", code=2)
    assert not (tmp_path / "ran").exists()
    quick(tmp_path, "ls", "plugins=[mine]")
    assert (tmp_path / "ran").exists()


def install(mine, site):
    """A folder of plugins as the package softlib in a folder of packages."""
    site.mkdir()
    mine.rename(site / "softlib")
    (site / "softlib" / "__init__.py").write_text("")
    info = site / "softlib-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: softlib\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[aloll.plugins]\nsoft = softlib\n")
    return site


@pytest.mark.slow
def test_an_installed_package_names_its_plugins_as_an_entry_point(tmp_path, mine):
    site = install(mine, tmp_path / "site")
    info = site / "softlib-1.0.dist-info"
    out, _ = run(tmp_path, "plan", "variant=first_tokens", "values=median", PYTHONPATH=str(site))
    assert "policy/first_tokens-s1" in out
    (info / "entry_points.txt").write_text("[aloll.plugins]\nsoft = no_such_package\n")
    _, err = run(tmp_path, "plan", code=2, PYTHONPATH=str(site))
    assert "the installed plugin soft names no_such_package, which is no package" in err


def test_what_would_hide_or_be_hidden_is_refused(tmp_path, mine):
    (mine / "reward" / "toxicity.py").write_text(REWARD.replace("Loud", "Toxicity"))
    (mine / "reward" / "toxicity.yaml").write_text(schema("reward", "toxicity"))
    assert "toxicity.yaml: reward=toxicity comes with aloll" in refused(tmp_path, "plugins=[mine]")
    for file in mine.glob("reward/toxicity.*"):
        file.unlink()
    (tmp_path / "more" / "reward").mkdir(parents=True)
    (tmp_path / "more" / "reward" / "loud.yaml").write_text(schema("reward", "length"))
    assert "reward=loud is in " in refused(tmp_path, "plugins=[mine,more]")
    edit(mine / "variant/first_tokens.py", "tokens: int", "version: int")
    assert 'an option cannot be named "version"' in refused(tmp_path, "plugins=[mine]")


@pytest.mark.slow
def test_an_abstract_base_is_a_helper_and_the_home_folder_has_a_short_name(tmp_path, mine):
    (mine / "variant" / "softened.py").write_text(
        "from aloll_cli.variants.base import Pointwise\n\n\nclass Softened(Pointwise):\n    pass\n"
    )
    run(tmp_path, "ls", "plugins=['~/mine']", HOME=str(tmp_path))
    run(tmp_path, "ls", "plugins=~/mine", HOME=str(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mine", "it's mine", "a, b [c]"])
def test_python_and_the_command_line_take_one_folder_or_several_by_any_name(tmp_path, mine, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    mine.rename(tmp_path / name)
    for plugins in (name, Path(name), [name], (Path(name),)):
        settings = compose("values=median", plugins=plugins)
        assert (settings.plugins, name_of(settings.values)) == ([name], "median")
    if "[" not in name:
        assert compose("values=median", f'plugins=["{name}"]').plugins == [name]
        assert compose("values=median", f"plugins={name}").plugins == [name]
    assert compose().plugins == []
    load_plugins([])


def completed(line, folders=()):
    return [word for word, _ in completions(line, TABLE, list(folders))]


def test_completion_knows_the_folders_that_a_line_names(tmp_path, mine, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for named in ("plugins=mine", "'plugins=[mine]'", 'plugins=["mine"]', f"plugins=[nowhere,{mine}]", "--config-dir mine"):
        assert completed(f"aloll train {named} variant=fi") == ["variant=first_tokens"]
    assert completed("aloll run plugins=mine test_reward=lo") == ["test_reward=loud"]
    assert completed("aloll run -m plugins=mine values=data,me") == ["values=data,median"]
    assert completed("aloll train plugins=mine variant=first_tokens variant.") == ["variant.tokens="]
    assert completions("aloll train plugins=mine variant=first_tokens variant.t", TABLE) == [("variant.tokens=", "how many")]
    assert (
        dict(completions("aloll train plugins=mine variant=first", TABLE))["variant=first_tokens"]
        == "The first tokens of a response."
    )
    assert completed("aloll train variant=fi") == []
    (mine / "variant/first_tokens.yaml").write_bytes(b"\xff")
    assert completed("aloll train plugins=mine variant=fi") == ["variant=first_tokens"]


@pytest.mark.slow
def test_completion_knows_installed_packages_from_the_shells_start_on(tmp_path, mine, monkeypatch):
    site = install(mine, tmp_path / "site")
    assert completed("aloll train variant=fi", [site / "softlib"]) == ["variant=first_tokens"]
    out, _ = run(tmp_path, "completion", "bash", PYTHONPATH=str(site))
    assert f"complete.py {site}/softlib " in out
    (site / "softlib-1.0.dist-info" / "entry_points.txt").write_text("[aloll.plugins]\nsoft = no_such_package\n")
    out, _ = run(tmp_path, "completion", "bash", PYTHONPATH=str(site))
    assert "complete.py " in out


@pytest.mark.slow
def test_settings_keep_the_code_that_they_were_composed_with(tmp_path, mine):
    script = """
from pathlib import Path
from aloll_cli import compose
from aloll_cli.artifacts.pipeline import Pipeline

policy = lambda settings: Pipeline(settings).policy.fingerprint
first = compose("variant=first_tokens", plugins=["mine"])
before = policy(first)
helper = Path("mine/variant/scales.py")
helper.write_text(helper.read_text().replace("2 * x", "3 * x"))
compose("seed=2")
assert policy(first) == before
second = policy(compose("variant=first_tokens", plugins=["mine"]))
assert second != before
assert policy(first) == before
helper.write_text(helper.read_text().replace("3 * x", "2 * x"))
assert policy(compose("variant=first_tokens", plugins=["mine"])) == before
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
