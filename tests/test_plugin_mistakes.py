"""What is wrong with a plugin is said by name: with its classes and YAML files at once, with its code when it runs."""

import re
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from running import quick
from test_plugins import REWARD, TASK, VALUES, schema
from tiny import opened, write_rows

from aloll_cli import UserError, compose
from aloll_cli.artifacts.pipeline import Pipeline
from aloll_cli.artifacts.rewards import ScoredBy
from aloll_cli.artifacts.values import checked
from aloll_cli.files import read_json
from aloll_cli.rewards.base import Row
from aloll_cli.rewards.scoring import checked_scores
from aloll_cli.schema import numbers
from aloll_cli.settings.checks import check
from aloll_cli.settings.entries import BASES, _check_dataclass, _check_option
from aloll_cli.settings.groups import GROUPS
from aloll_cli.settings.plugins import load_plugins
from aloll_cli.tasks.base import BadRow, Part, Record
from aloll_cli.training.contracts import checked_advantages, checked_loss, checked_metrics, checked_targets
from aloll_cli.user_code import plugin_errors
from aloll_cli.variants.base import Batch, Logged

VARIANT = """
from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from aloll_cli.schema import numbers
from aloll_cli.variants.base import Groupwise, Pointwise, Variant

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(kw_only=True)
class Filtered(Pointwise):
    margin: float = field(metadata=numbers("[0, inf)", 0.1))

    def loss(self, batch):
        return helper(batch)


def helper(batch):
    return {}["x"]
"""
FILES = {
    "variant/filtered.py": VARIANT, "variant/filtered.yaml": schema("variant", "filtered") + "margin: 0.5\n",
    "reward/loud.py": REWARD, "reward/loud.yaml": schema("reward", "loud"),
    "values/median.py": VALUES, "values/median.yaml": schema("values", "median"),
    "task/notes.py": TASK, "task/notes.yaml": '# Mine.\ndefaults: ["/schema/task/notes@_here_", "/base/task@_here_"]\n',
}  # fmt: skip


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A folder of plugins in the current folder, forgotten afterwards."""
    for name, text in FILES.items():
        file = tmp_path / "mine" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    monkeypatch.chdir(tmp_path)
    yield tmp_path / "mine"
    load_plugins([])


def change(name, old, new):
    file = Path("mine") / name
    text = file.read_text()
    assert old in text, name
    file.write_text(text.replace(old, new))


CHOSEN = ["variant=filtered", "reward=loud", "values=median", "task=notes"]
MISTAKES = {
    "the base of all methods": ("variant/filtered.py", "(Pointwise)", "(Variant)",
        r"mine/variant/filtered\.py: class Filtered does not derive from Pointwise, Regression, Groupwise or Online\.\n.*class Filtered\(Pointwise\): one response"),
    "no base": ("variant/filtered.py", "Filtered(Pointwise)", "Filtered",
        r"class Filtered does not derive from Pointwise, Regression, Groupwise or Online"),
    "the base of another group": ("reward/loud.py", "class Loud(Reward)", "class Loud(Scorer)", r"class Loud does not derive from Reward\.\nclass Loud\(Reward\)"),
    "no decorator": ("variant/filtered.py", "@dataclass(kw_only=True)\n", "",
        r"class Filtered is not decorated with @dataclass\(kw_only=True\)\.\nPut @dataclass\(kw_only=True\) on the line above it\."),
    "not keyword-only": ("variant/filtered.py", "@dataclass(kw_only=True)", "@dataclass", r"is not decorated with @dataclass\(kw_only=True\)"),
    "no loss": ("variant/filtered.py", "def loss", "def los", r"class Filtered does not define loss\."),
    "no fit": ("reward/loud.py", "    def scorer", "    is_fitted = True\n\n    def scorer", r"class Loud does not define fit\."),
    "a default in Python": ("variant/filtered.py", 'field(metadata=numbers("[0, inf)", 0.1))', "0.1",
        r"filtered\.py: option margin has a default in Python\.\nIts value belongs into filtered\.yaml alone"),
    "a default in field()": ("variant/filtered.py", "field(metadata", "field(default=1, metadata", r"option margin has a default in Python"),
    "a constant with a type": ("variant/filtered.py", "    def loss", "    signal: int = 3\n\n    def loss",
        r"option signal has a default in Python\.\n.*What is no option: signal: ClassVar"),
    "a type that is not there at run time": ("variant/filtered.py", "margin: float", "margin: Path",
        r"option margin has the type Path: name 'Path' is not defined\.\nImport .* outside of if TYPE_CHECKING"),
    "a type that YAML cannot hold": ("variant/filtered.py", "margin: float", "margin: set[int]",
        r"option margin has the type set\[int\], which YAML cannot hold\.\nTypes of options: int, float, str"),
    "no interval": ("variant/filtered.py", "[0, inf)", "0..inf",
        r'mine/variant/filtered\.py, line 16: ValueError: "0\.\.inf" is no interval of numbers; write it as "\[0, inf\)"'),
    "a typical number outside": ("variant/filtered.py", '", 0.1)', '", -1)', r"the typical number -1 is not in \[0, inf\)"),
    "an option without a value": ("variant/filtered.yaml", "margin: 0.5", "",
        r"^mine/variant/filtered\.yaml does not set margin\.\nAdd a line: margin: 0\.1$"),
    "a task without the base's values": ("task/notes.yaml", ', "/base/task@_here_"', "",
        r'^mine/task/notes\.yaml does not set path, on_bad_row, subsets and \d+ more\.\nBegin it with: defaults: \["/schema/task/notes@_here_", "/base/task@_here_"\]$'),
    "an option that is left to the command line": ("variant/filtered.yaml", "0.5", "???", r"^variant\.margin has no value\.\nSet it: variant\.margin="),
    "a program that ends": ("values/median.py", "import numpy as np", "import sys\nsys.exit()", r"mine/values/median\.py, line 8: SystemExit"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_an_entry_is_refused_by_name(mine, mistake):
    name, old, new, message = MISTAKES[mistake]
    change(name, old, new)
    with pytest.raises(UserError) as refusal:
        compose(*CHOSEN, plugins="mine")
    assert re.search(message, str(refusal.value)), str(refusal.value)


def test_what_is_missing_or_misnamed_in_a_folder_is_said_with_its_name(mine):
    def said():
        with pytest.raises(UserError) as refusal:
            load_plugins(["mine"])
        return str(refusal.value)

    (mine / "task/notes.yaml").unlink()
    assert said() == (
        "mine/task/notes.py has no notes.yaml beside it.\n"
        'mine/task/notes.yaml: defaults: ["/schema/task/notes@_here_", "/base/task@_here_"]'
    )
    (mine / "task/notes.py").unlink()
    (mine / "variant/filtered.yaml").unlink()
    assert said().endswith('filtered.yaml: defaults: ["/schema/variant/filtered@_here_"], then a line for each option: margin')
    (mine / "variant").rename(mine / "variants")
    (mine / "variants/x.yaml").touch()
    assert said() == "plugins: mine/variants is not read.\nName the folder variant."
    (mine / "reward/helpers.py").write_bytes(b"x = '\xff'")
    (mine / "variants/x.yaml").unlink()
    assert said() == "mine/reward/helpers.py is not UTF-8.\nSave the file as UTF-8."
    with pytest.raises(UserError, match=r"mine/reward has none of the folders .*\nplugins=mine$"):
        load_plugins(["mine/reward"])


@pytest.mark.parametrize(("name", "better"), [("top_5", "top5"), ("Filtered", "filtered"), ("my-own", "my_own")])
def test_a_file_whose_name_no_class_can_have_is_to_be_renamed(mine, name, better):
    for ending in ("py", "yaml"):
        (mine / f"variant/filtered.{ending}").rename(mine / f"variant/{name}.{ending}")
    with pytest.raises(UserError, match=rf"{name} is not the name of a class in lower case.*\nName the files {better}\.py"):
        load_plugins(["mine"])


def test_every_shipped_entry_keeps_the_rules_for_plugins():
    entries = [cls for group in BASES for cls in GROUPS[group].values()]
    assert len(entries) > 30
    for cls in entries:
        _check_dataclass(Path("x.py"), cls)
        for option in fields(cls):
            _check_option(Path("x.py"), cls, option)


def test_an_interval_is_checked_where_it_is_declared():
    for text in ("", "0", "[0", "(1, 0)", "0, 1", "[a, b]", "[0, 1, 2]"):
        with pytest.raises(ValueError, match="is no interval of numbers"):
            numbers(text)


def test_an_exception_in_a_plugin_is_shown_from_its_file_on(mine):
    entry = compose("variant=filtered", plugins="mine").variant
    with pytest.raises(UserError) as refusal, plugin_errors():
        entry.loss(None)
    said = refusal.value.told("aloll train: ").splitlines()
    assert said[0] == "Traceback (most recent call last):"
    assert [line.strip() for line in said if line.startswith("  File ")] == [
        f'File "{mine}/variant/filtered.py", line 19, in loss',
        f'File "{mine}/variant/filtered.py", line 23, in helper',
    ]
    assert said[-2] == "aloll train: variant=filtered (mine/variant/filtered.py) raised KeyError: 'x'."
    assert said[-1].startswith("Correct the file and repeat the command")


def test_an_exception_of_ours_passes_unchanged(mine):
    compose("variant=filtered", plugins="mine")
    for error in (KeyError("x"), UserError("wrong"), OSError(28, "No space left on device")):
        with pytest.raises(type(error)) as passed, plugin_errors():
            raise error
        assert passed.value is error


def test_an_exception_while_options_are_checked_is_a_plugins_too(mine):
    change("variant/filtered.py", "    def loss", "    def __post_init__(self):\n        self.margin.real()\n\n    def loss")
    with pytest.raises(UserError, match=r"variant=filtered \(mine/variant/filtered\.py\) raised TypeError: "):
        compose("variant=filtered", plugins="mine")
    change("variant/filtered.py", "def __post_init__(self)", "def check(self, bounds, size)")
    settings = compose("variant=filtered", plugins="mine")
    with pytest.raises(UserError, match=r"variant=filtered \(mine/variant/filtered\.py\) raised TypeError: "):
        check(settings, ["policy"])


@pytest.mark.slow
def test_the_command_ends_with_the_users_traceback_and_exit_code_2(mine, tmp_path):
    change("reward/loud.py", "len(row.response", "len(row.answer")
    write_rows(tmp_path / "rows.jsonl", [{"prompt": f"{i}", "response": f"It is {i}."} for i in range(60)])
    options = ["task=local", "task.path=rows.jsonl", "reward=loud", "model.vocab_size=400", "threads=1"]
    _, err = quick(tmp_path, "score-rewards", "plugins=mine", *options, code=2)
    trace, _, said = err.partition("aloll score-rewards: ")
    assert "aloll_cli/" not in trace.partition("Traceback")[2]
    assert re.search(r'mine/reward/loud\.py", line \d+, in score\n', trace)
    assert said.splitlines() == [
        "reward=loud (mine/reward/loud.py) raised AttributeError: 'Row' object has no attribute 'answer'.",
        "Correct the file and repeat the command; whatever was built without it stays cached.",
    ]
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.slow
def test_an_exception_in_one_of_several_processes_is_said_once(mine, tmp_path):
    failing = (
        '        import os\n        if os.environ["RANK"] == "1":\n            {}["x"]\n        return -batch.logps.sum(dim=1)\n'
    )
    change("variant/filtered.py", "        return helper(batch)\n", failing)
    from running import SMALL

    _, err = quick(tmp_path, "train", "plugins=mine", "variant=filtered", "processes=2", *SMALL, code=2)
    assert err.count("Traceback") == 1
    assert err.count("aloll train: ") == 1
    assert "variant=filtered (mine/variant/filtered.py) raised KeyError: 'x'." in err


ROWS = [{"question": f"{i}?", "note": f"It is {i}.", "stars": i % 5} for i in range(60)]


def data(tmp_path, *options):
    """The counts of the rows of mine/task/notes.py."""
    settings = compose("task=notes", "task.path=rows.jsonl", *options, plugins="mine")
    folder = opened(tmp_path / "out", settings).ensure(Pipeline(settings).data)
    return read_json(folder / "counts.json")


@pytest.mark.slow
def test_a_row_that_lacks_a_field_is_named_or_skipped(mine, tmp_path):
    change("task/notes.py", 'text_field(row, "question")', 'row["question"]')
    write_rows(
        tmp_path / "rows.jsonl", [*ROWS[:3], {"note": "x", "stars": 1}, *ROWS[3:], {"question": 3, "note": "x", "stars": 1}]
    )
    with pytest.raises(UserError) as refusal:
        data(tmp_path)
    trace, _, said = str(refusal.value).partition("\nrows.jsonl")
    assert said.startswith(", line 4: task=notes (mine/task/notes.py) raised KeyError: 'question'.\nLeave such rows out with")
    assert re.search(r'mine/task/notes\.py", line \d+, in records', trace)
    assert data(tmp_path, "task.on_bad_row=skip")["all"] == {"rows": 62, "bad rows skipped": 2}


@pytest.mark.slow
def test_what_no_row_can_be_blamed_for_is_not_skipped(mine, tmp_path):
    write_rows(tmp_path / "rows.jsonl", ROWS)
    change("task/notes.py", "return [Record(", "return [Recrd(")
    with pytest.raises(UserError, match=r"rows\.jsonl, line 1: task=notes .* raised NameError: name 'Recrd' is not defined"):
        data(tmp_path, "task.on_bad_row=skip")
    change("task/notes.py", "return [Recrd(", "[Record(")
    with pytest.raises(UserError, match=r"rows\.jsonl, line 1: records of task=notes returned None\.\nExpected a list of Record"):
        data(tmp_path, "task.on_bad_row=skip")
    change("task/notes.py", "        [Record(", "        yield from [Record(")
    assert data(tmp_path)["all"] == {"rows": 60}


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Part("Hi", "human"), "Part.role\": expected system, user, assistant or None, got 'human'"),
        (lambda: Part(3), 'Part.text": expected text, got 3'),
        (lambda: Part("Hi", prefix=None), 'Part.prefix": expected text, got None'),
        (lambda: Part("Hi", drop="last"), "Part.drop\": expected an integer or None, got 'last'"),
        (lambda: Record("Hi", "you"), "Record.parts\": expected a tuple of Part, got 'Hi'"),
        (lambda: Record((Part("Hi"),), None), 'Record.response": expected text, got None'),
        (lambda: Record((Part("Hi"),), "\ud800"), 'Record.response" contains half of a surrogate pair'),
        (lambda: Record((Part("Hi"),), "you", "3"), "Record.reward\": expected a finite number or None, got '3'"),
        (lambda: Record((Part("Hi"),), "you", float("nan")), 'Record.reward": expected a finite number or None, got nan'),
        (lambda: Record((Part("Hi"),), "you", True), 'Record.reward": expected a finite number or None, got True'),
        (lambda: Record((Part("Hi"),), "you", 1.0, None), 'Record.position": expected an integer, got None'),
        (lambda: Record((Part("Hi"),), "you", subset=3), 'Record.subset": expected text, got 3'),
        (
            lambda: Record((Part("Hi"),), "you", split="dev"),
            "Record.split\": expected train, validation, test or None, got 'dev'",
        ),
    ],
)
def test_parts_and_records_refuse_what_they_cannot_hold(build, message):
    with pytest.raises(BadRow, match=re.escape(message)):
        build()


def test_parts_and_records_take_what_numpy_gives():
    assert Record([Part("Hi", "user", drop=None)], "you", np.float32(0.5)).reward == 0.5


class Returning:
    """An entry whose methods return what a test wants."""

    def __init__(self, value):
        self.value = value

    def loss(self, batch):
        return self.value(batch) if callable(self.value) else self.value

    metrics = loss

    def score(self, rows):
        return self.value

    def advantages(self, *given):
        return self.value

    targets = advantages


def batch():
    """Two responses of three tokens."""
    logps = (torch.zeros(2, 3, requires_grad=True) + 0).requires_grad_()
    ones = torch.ones(2)
    return Batch(logps=logps, behaviour_logps=None, weights=ones, rewards=ones, group=torch.arange(2), mask=torch.ones(2, 3))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0.5, r"variant=returning returned a loss of type float; expected a tensor \(2,\)\."),
        (lambda given: given.logps.sum(), r"a loss of shape \(\); expected \(2,\), one per unit\."),
        (lambda given: given.logps.detach().sum(dim=1), r"variant=returning returned a loss without a gradient\."),
        (lambda given: given.logps.mul_(2).sum(dim=1), r"variant=returning changes batch\.logps in place\.\n.*not x \+= y"),
    ],
)
def test_a_loss_that_cannot_be_trained_on_is_refused(value, message):
    with pytest.raises(UserError, match=message):
        checked_loss(Returning(value), batch(), 2)


def test_what_methods_of_a_variant_return_is_checked():
    fine = {"a": torch.zeros(2), "b": torch.zeros(1)}
    assert checked_metrics(Returning(lambda given: fine), batch(), 1) == fine
    with pytest.raises(UserError, match=r"metrics of variant=returning returned NoneType; expected a dict"):
        checked_metrics(Returning(lambda given: None), batch(), 2)
    with pytest.raises(UserError, match=r"metric x of variant=returning has type float; expected \(2,\) or \(1,\)\."):
        checked_metrics(Returning(lambda given: {"x": 0.5}), batch(), 1)
    rewards = np.array([1.0, 2.0])
    assert checked_advantages(Returning(rewards), rewards, rewards, rewards) is rewards
    logged = Logged(rewards, None, None)
    assert checked_targets(Returning(rewards), logged) is rewards
    for wrong, what in ((rewards[:1], r"values of shape \(1,\)"), (rewards * np.nan, "some that are not finite")):
        with pytest.raises(UserError, match=rf"advantages of variant=returning returned {what}\.\nExpected \(2,\) finite"):
            checked_advantages(Returning(wrong), rewards, rewards, rewards)
        with pytest.raises(UserError, match=rf"targets of variant=returning returned {what}\."):
            checked_targets(Returning(wrong), logged)


def test_what_methods_of_rewards_and_values_return_is_checked(mine):
    reward = compose("reward=loud", plugins="mine").reward
    with pytest.raises(UserError, match=r"reward=loud returned \['a'\] for 1 rows from x on: texts\.\nReturn one number per row"):
        checked_scores(reward, Returning(["a"]), [Row("x", "0", "Hi", "you")])
    with pytest.raises(UserError, match=r"values=mine gave \[1j\] for 1 responses"):
        checked([1j], 1, "mine")
    with pytest.raises(UserError, match=r"values=mine gave None for 3 responses"):
        checked(None, 3, "mine")
    change("reward/loud.py", "return _Marks()", "return _Marks")
    change("reward/loud.py", "return 0.0, 1.0", "return 1.0")
    settings = compose("reward=loud", plugins="mine")
    with pytest.raises(UserError, match=r"range of reward=loud is 1\.0; expected two numbers"):
        check(settings, ["rewards"])
    with pytest.raises(UserError, match=r"scorer of reward=loud returned <class .*_Marks'>\.\n.*derives from Scorer"):
        ScoredBy(settings.reward, None).scorer(None)
