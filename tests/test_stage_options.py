"""The options that a stage declares as its own are those that it reads: by fingerprints along the line, by its code elsewhere."""

import ast
import inspect
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import fields
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest
from tiny import composed, gpt2, tokenizer

from aloll_cli.artifacts.pipeline import Pipeline
from aloll_cli.cli.options import SECOND, Catalogue
from aloll_cli.settings.groups import GROUPS
from aloll_cli.settings.root import Settings
from aloll_cli.stages import LINE, RUNNING, RUNNING_GROUPS, STAGES
from aloll_cli.store.store import Artifact, upstream
from aloll_cli.tasks.base import SPLITS

# what decides a stage's work only under some configurations
CONFIGURATIONS = {
    "default": (),
    "V from the data": ("values=constant",),
    "stored rewards": ("reward=column", "values=data"),
    "rounds": ("rounds=2",),
    "a pretrained model": ("model=pretrained", "model.path={folder}/model", "reference=sft", "adapter=lora"),
}
CHANGES = {  # of every option that is part of a recipe
    "task": "task.max_prompt_tokens=32", "model": "model=pretrained model.path={folder}/model", "adapter": "adapter=qlora",
    "reference": "reference.seed=2", "reward": "reward=length", "test_reward": "reward@test_reward=length",
    "values": "values=group", "variant": "variant=kl", "sampling": "sampling=uniform", "optimizer": "optimizer.lr=1e-5",
    "generation": "generation=greedy", "seed": "seed=2", "updates": "updates=7", "epochs": "epochs=1",
    "batch_size": "batch_size=8", "rounds": "rounds=3", "round_prompts": "round_prompts=4", "samples": "samples=2",
    "weight_loss": "weight_loss=false", "clamp": "clamp=false", "reduction": "reduction=mean",
    "eval_every": "eval_every=10", "eval_prompts": "eval_prompts=8", "select": "select=last", "early_stop": "early_stop=3",
    "split": "split=validation",
    "references": "references=all", "words": "words=zh", "resamples": "resamples=50", "policy": "policy={folder}/model",
}  # fmt: skip
MAKING = [name for name in LINE if name not in ("report", "run")]
BESIDE = {"generate", "chat", "runs", "report", "compare", "judge", "inspect", "ls", "clean", "export"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    gpt2().save_pretrained(folder / "model")
    tokenizer().save_pretrained(folder / "model")
    return folder


@cache
def made(overrides: tuple[str, ...], folder: Path) -> dict[str, set[str]]:
    """By stage, the fingerprints of all that it makes under a configuration, and of what that is made from."""
    line = Pipeline(composed(*(override.format(folder=folder) for override in overrides)))
    return {stage: set(fingerprints(line, STAGES[stage].makes)) for stage in LINE}


def fingerprints(line: Pipeline, names: Sequence[str]) -> Iterator[str]:
    for found in (getattr(line, name) for name in names):
        for artifact in [found] if isinstance(found, Artifact) else map(found, SPLITS):
            yield from (needed.fingerprint for needed in [*upstream(artifact), artifact])


def decided_by(stage: str, option: str, folder: Path) -> bool:
    """Whether under some configuration an option changes what a stage makes, and nothing that the stages before it make."""
    for overrides in CONFIGURATIONS.values():
        plain, changed = made(overrides, folder), made((*overrides, *CHANGES[option].split()), folder)
        if plain[stage] != changed[stage] and all(plain[before] == changed[before] for before in STAGES[stage].after):
            return True
    return False


def test_every_option_of_a_recipe_is_changed_here():
    operational = {f.name for f in fields(Settings) if f.metadata.get("identity", True) is False}
    assert set(CHANGES) == {f.name for f in fields(Settings)} - operational


@pytest.mark.slow
def test_the_own_options_of_a_stage_of_the_line_change_what_it_makes_and_nothing_before(folder: Path):
    found = {stage: {option for option in CHANGES if decided_by(stage, option, folder)} for stage in MAKING}
    assert found == {stage: {*STAGES[stage].groups, *STAGES[stage].options} for stage in MAKING}


def code_of(name: str) -> dict[str, ast.FunctionDef]:
    tree = ast.parse(inspect.getsource(import_module(name)))
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}


PROPERTIES = {
    name: {n.attr for n in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(p.fget)))) if isinstance(n, ast.Attribute)}
    for name, p in vars(Settings).items()
    if isinstance(p, property)
}


def read_by(module: str, function: str) -> set[str]:
    """The options that a function reads, itself or in functions that it hands the settings to; of Pipeline it says nothing."""
    found: set[str] = set()
    node = code_of(module)[function]
    imported = {a.name: i.module for i in ast.walk(ast.parse(inspect.getsource(import_module(module))))
                if isinstance(i, ast.ImportFrom) for a in i.names}  # fmt: skip
    for inner in ast.walk(node):
        if isinstance(inner, ast.Attribute) and isinstance(inner.value, ast.Name) and inner.value.id == "settings":
            found |= PROPERTIES.get(inner.attr, {inner.attr})
        handed = isinstance(inner, ast.Call) and any(isinstance(a, ast.Name) and a.id == "settings" for a in inner.args)
        if handed and isinstance(inner.func, ast.Name) and inner.func.id in imported and inner.func.id != "Pipeline":
            found |= read_by(imported[inner.func.id], inner.func.id)
    return found & {f.name for f in fields(Settings)}


@pytest.mark.parametrize("stage", sorted(BESIDE))
def test_the_own_options_of_any_other_stage_are_read_by_its_code(stage: str):
    own = {*STAGES[stage].groups, *STAGES[stage].options}
    read = read_by(f"aloll_cli.stages.{stage}", "run") - {*RUNNING, *RUNNING_GROUPS}
    before = {name for other in STAGES[stage].after for name in (*STAGES[other].groups, *STAGES[other].options)}
    assert own <= read
    assert read - own <= before


def test_run_reads_the_options_of_the_whole_line_and_plan_one_of_its_own():
    assert set(STAGES["run"].after) == set(LINE) - {"run"}
    assert {*STAGES["run"].groups, *STAGES["run"].options} <= {o for n in MAKING for o in (*STAGES[n].groups, *STAGES[n].options)}
    assert not STAGES["plan"].groups
    assert STAGES["plan"].options == ("estimate",)


def test_every_option_belongs_to_a_stage():
    declared = {name for stage in STAGES.values() for name in (*stage.groups, *stage.options)} | {*RUNNING, *RUNNING_GROUPS}
    assert declared == {f.name for f in fields(Settings)}
    assert declared == {*Catalogue().root, *GROUPS, *SECOND}
