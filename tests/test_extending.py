"""docs/extending.md, done word for word: its files work, and its tables say everything that the base classes have."""

import inspect
import json
import re
from dataclasses import fields
from pathlib import Path

import pytest
from running import SMALL, quick
from tiny import write_rows

from aloll_cli import compose
from aloll_cli.cli.options import Catalogue
from aloll_cli.rewards.base import Reward, Row, Scorer
from aloll_cli.settings.plugins import load_plugins
from aloll_cli.tasks.base import ROLES, Part, Record, Task
from aloll_cli.values.base import Estimate, Evidence, LoggedRewards, Values
from aloll_cli.variants.base import Batch, Grouped, Groupwise, Logged, Online, Pointwise, Regression, Signal

PAGE = (Path(__file__).parents[1] / "docs" / "extending.md").read_text()
FILES = dict(re.findall(r"^`(mine/\S+)`:\n\n```(?:python|yaml)\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE))
ENTRIES = {"variant": "filtered", "reward": "brevity", "task": "tickets", "values": "shrunk"}


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """The page's folder in the current one, forgotten afterwards."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    yield tmp_path / "mine"
    load_plugins([])


def test_the_page_has_a_class_and_its_options_of_each_kind():
    assert sorted(FILES) == sorted(
        f"mine/{group}/{name}.{ending}" for group, name in ENTRIES.items() for ending in ("py", "yaml")
    )


def test_its_files_compose_and_their_comments_are_the_help(mine):
    settings = compose(*(f"{group}={name}" for group, name in ENTRIES.items()), plugins=mine)
    assert (settings.variant.margin, settings.reward.most, settings.values.strength) == (0.1, 40, 2.0)
    choices = {group: Catalogue(after=[mine]).choice(group, name) for group, name in ENTRIES.items()}
    assert {group: choice.what for group, choice in choices.items()} == {
        "variant": "Filtered behaviour cloning",
        "reward": "How short a response is",
        "task": "Support tickets",
        "values": "Leave-one-out mean, shrunk towards the mean of all",
    }
    margin = choices["variant"].options["variant.margin"]
    assert (margin.allowed, margin.what) == ("number ≥ 0", "responses with a smaller advantage have no loss")


@pytest.mark.slow
def test_its_commands_run(mine, tmp_path):
    tickets = [{"question": f"{i}?", "answer": "On its way." if i % 3 else "Lost.", "stars": i % 5} for i in range(300)]
    write_rows(tmp_path / "tickets.jsonl", [*tickets, {"spam": True}])
    small = [option for option in SMALL if not option.startswith("values.")]
    out, _ = quick(
        tmp_path, "run", "plugins=mine", "variant=filtered", "sampling=uniform", "reward=brevity", "values=shrunk", *small
    )
    assert "filtered, seed 1" in out
    out, _ = quick(tmp_path, "inspect", "plugins=mine", "task=tickets", "task.path=tickets.jsonl", "format=json")
    assert json.loads(out)["rows"]["all"] == {"rows": 301, "rows left out (spam)": 1}


def section(title):
    """The text below a heading, up to the next one."""
    return re.search(rf"^## {title}\n(.*?)(?=^## )", PAGE, flags=re.DOTALL | re.MULTILINE)[1]


def named(title):
    """Every word in the first cells of a section's tables."""
    cells = re.findall(r"^\| (`[^|]*) \|", section(title), flags=re.MULTILINE)
    return set(re.findall(r"\w+", " ".join(cells)))


def own(cls):
    """The public attributes of a class, with those of its bases here."""
    classes = [base for base in cls.__mro__ if base.__module__.startswith("aloll_cli")]
    return {name for base in classes for name in vars(base) if not name.startswith("_")}


OPTIONS = {field.name for cls in (Task, Grouped) for field in fields(cls)}  # in docs/options.md
EXPLAINED = {"version", "drift"}  # of shipped classes; names of metrics
TEXTS = {"prompt", "group"}  # of Record, made from its parts
TABLES = {
    "A method": (Batch, Pointwise, Regression, Logged, Groupwise, Online, Grouped),
    "A reward": (Row, Reward, Scorer),
    "A task": (Part, Record, Task),
    "Values": (Evidence, LoggedRewards, Values, Estimate),
}


@pytest.mark.parametrize("title", TABLES)
def test_its_tables_have_every_field_and_method(title):
    for cls in TABLES[title]:
        there = own(cls) | {field.name for field in fields(cls)} if hasattr(cls, "__dataclass_fields__") else own(cls)
        assert len(there) > 0
        missing = there - named(title) - EXPLAINED - (OPTIONS if issubclass(cls, Task | Online) else set())
        assert missing - (TEXTS if cls is Record else set()) == set(), cls


def test_it_names_every_role_and_signal():
    assert all(role in section("A task") for role in ROLES)
    assert all(f"Signal.{signal.name}" in section("A method") for signal in Signal)
    assert inspect.signature(Reward.fit).parameters.keys() >= {"train", "validation", "directory"}
