"""The catalogue of options, and what is made from it: help, docs/options.md and shell completion."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_module
from make_options import FILES, ROOT
from omegaconf import OmegaConf
from running import run

from aloll_cli.cli.commented import read
from aloll_cli.cli.complete import completions
from aloll_cli.cli.completion import SCRIPTS, script
from aloll_cli.cli.hints import ELSEWHERE, OFF, OURS, catalogue, example
from aloll_cli.cli.options import MISSING, Catalogue
from aloll_cli.cli.showing import annotated
from aloll_cli.cli.validation import register
from aloll_cli.schema import flatten
from aloll_cli.settings.groups import GROUPS
from aloll_cli.settings.root import Settings
from aloll_cli.stages import RUNNING, STAGES

CATALOGUE = Catalogue()
TABLE = json.loads((ROOT / "aloll_cli/cli/completion.json").read_text())


def test_every_option_has_a_default_a_range_and_a_description():
    options = CATALOGUE.options
    assert len(options) > 700
    assert [option.key for option in options if not option.default] == []
    assert [option.key for option in options if not option.allowed] == []
    assert [option.key for option in options if not option.what] == []


@pytest.mark.parametrize(
    "overrides", [(), ("task=hha", "model=qwen3_8b_qlora", "reward=imdb"), ("task=local", "values=head_paper")]
)
def test_the_catalogue_has_the_options_and_values_that_hydra_composes(overrides: tuple[str, ...]):
    register(Settings, GROUPS)
    with initialize_config_module("aloll_cli.conf", version_base=None):
        cfg = compose("config", [*overrides, "hydra.verbose=false"], return_hydra_config=True)
    choices = cfg.hydra.runtime.choices
    described = dict(CATALOGUE.root)
    for group in GROUPS:
        described |= CATALOGUE.choice(group, choices[group]).options
    values = flatten(OmegaConf.to_container(OmegaConf.masked_copy(cfg, [key for key in cfg if key != "hydra"]), enum_to_str=True))
    rest = {key for key in values if key not in described}
    # a part of a mixture has options that no file assigns; a group may have no choice
    assert all(".parts." in key or key in ("adapter", "test_reward") for key in rest)
    # what a model's file presets outside of its own group
    preset = (
        {"reference", "optimizer", "adapter", "micro_batch_size", "gradient_checkpointing"} if "hha" in str(overrides) else set()
    )
    for key, option in described.items():
        if key.partition(".")[0] not in preset and option.default != MISSING and ".parts." not in key:
            assert str(OmegaConf.create(f"x: {option.default}").x) == str(values[key]), key


def test_comments_are_read_with_what_goes_on_below_them(tmp_path: Path):
    file = tmp_path / "x.yaml"
    file.write_text(
        "# What it is.\n# Example: aloll run x=y\ndefaults: [a, _self_, {override /b: c}]\n"
        'one: "#1"   # first\n            # and more\ntwo: [1, 2]  # second\nthree:  # third\n  four: {five: 5}\nsix: 6\n'
    )
    found = read(file)
    assert (found.summary, found.example, found.is_global) == ("What it is", "aloll run x=y", False)
    assert found.defaults == [("a", None), ("override /b", "c")]
    lines = {key: (line.value, line.comment) for key, line in found.lines.items()}
    assert lines == {
        "one": ('"#1"', "first and more"),
        "two": ("[1, 2]", "second"),
        "three.four.five": ("5", ""),
        "six": ("6", ""),
    }


@pytest.mark.parametrize("name", FILES)
def test_generated_files_are_what_the_script_makes(name: str):
    assert (ROOT / name).read_text() == FILES[name](), "run: python scripts/make_options.py"


def test_help_lists_the_stages_in_two_blocks(tmp_path: Path):
    out, _ = run(tmp_path, "--help")
    line, beside = out.split("Other commands:")
    assert [stage for stage in STAGES if f"\n  {stage} " in line] == [stage for stage in STAGES if stage in TABLE["stages"]][:7]
    assert all(f"\n  {stage} " in line or f"\n  {stage} " in beside for stage in STAGES)


def test_the_help_of_a_stage_begins_with_its_own_options_and_folds_those_before_it(tmp_path: Path):
    out, _ = run(tmp_path, "train", "updates=77", "variant=kl", "--help")
    assert out.splitlines()[0].startswith("aloll train: train a policy")
    assert (
        out.index("  updates=77") < out.index("  variant.beta=") < out.index("  variant=kl") < out.index("Options of all stages")
    )
    assert "    nll " in out
    assert "variant.clip" not in out
    assert "reference.updates" not in out
    assert "aloll train --help all" in out
    assert max(map(len, out.splitlines())) <= 80
    everything, _ = run(tmp_path, "train", "--help", "all")
    assert "  reference.updates=1200" in everything
    assert "Options of train-reference" in everything
    assert all(f"  {key}=" in everything for key in RUNNING)


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_has_a_help_that_fits_the_screen(tmp_path: Path, stage: str):
    out, _ = run(tmp_path, stage, "-h")
    assert all(f"  {option}=" in out for option in STAGES[stage].options)
    assert all(f"  {group}=" in out for group in STAGES[stage].groups)
    assert max(map(len, out.splitlines())) <= 80
    assert "schema" not in out


def test_hydra_has_a_help_of_its_own(tmp_path: Path):
    out, _ = run(tmp_path, "train", "--hydra-help")
    assert "== Flags ==" in out


def test_python_m_is_the_command():
    done = subprocess.run([sys.executable, "-m", "aloll_cli", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("aloll ")


def test_the_configuration_names_the_choice_of_each_group_and_stays_yaml(tmp_path: Path):
    out, _ = run(tmp_path, "train", "variant=nll", "reward=mixed", "reward.parts.mood=vader", "--cfg", "job")
    lines = out.splitlines()
    for line in (
        "variant: {}  # nll",
        "reward:  # mixed",
        "  optimizer:  # adamw",
        "      reward: {}  # vader",
        "adapter: null  # none",
    ):
        assert line in lines, line
    assert yaml.safe_load(out)["variant"] == {}
    out, _ = run(tmp_path, "train", "variant=nll", "--cfg", "job", "--package", "variant")
    assert out == "# variant=nll\n{}\n"


def test_a_comment_never_stands_inside_of_a_value():
    text = "a:\n  b: 'variant: {}'\nvariant:\n  c: 1\nlist: [1]\n"
    assert annotated(text, {"variant": "seq", "a.b": "x", "list": "y"}) == text.replace("variant:\n", "variant:  # seq\n")


def test_names_of_other_libraries_lead_to_options_that_exist():
    assert len(OURS) == sum(len(names.split()) for names in ELSEWHERE.values())  # none twice
    known = {*catalogue(), *GROUPS}
    for template in [*ELSEWHERE, *OFF]:
        for word in template.split():
            assert word.partition("=")[0] in known, word


def test_an_example_is_a_value_that_the_option_may_have():
    examples = ["seed=1", "select=best", "optimizer.lr=3e-4", "max_hours=1", "runs=[RUNS]", "variant.clip=0.9"]
    assert [example(typed.partition("=")[0]) for typed in examples] == examples
    assert example("nosuch.key") == "nosuch.key=KEY"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("aloll tr", ["train-reference", "train"]),
        ("aloll completion ", ["bash", "zsh", "fish"]),
        ("aloll train vari", ["variant="]),
        ("aloll train variant=r_", ["variant=r_gold", "variant=r_lol"]),
        ("aloll train variant=kl variant.", ["variant.beta=", "variant.estimator="]),
        ("aloll train variant=kl variant.estimator=", ["variant.estimator=k1", "variant.estimator=k2"]),
        ("aloll run -m variant=nll,se", ["variant=nll,seq"]),
        ("aloll train weight_loss=", ["weight_loss=true", "weight_loss=false"]),
        ("aloll train attn=n", ["attn=null"]),
        ("aloll run reward=mixed reward.parts.mood=va", ["reward.parts.mood=vader"]),
        ("aloll run test_reward=va", ["test_reward=vader"]),
        ("aloll run experiment=hha", ["experiment=hha_small"]),
        ("aloll train --mu", ["--multirun"]),
        ("aloll train --cfg ", ["job", "hydra", "all"]),
        ("aloll clean as", ["ask="]),
        ("aloll ls upd", []),  # not read by ls
        ("aloll nosuch x", []),
        ("aloll train task.path=/", []),  # left to the shell
    ],
)
def test_what_completes_a_line(line: str, words: list[str]):
    assert [word for word, _ in completions(line, TABLE)] == words


ASK = {  # a shell that completes "aloll train variant=r_" and prints what it found
    "bash": 'eval "$1"; COMP_LINE="aloll train variant=r_"; COMP_POINT=${#COMP_LINE}; _aloll; echo "${COMPREPLY[@]}"',
    "zsh": 'compdef() { : }; compadd() { print -r -- "${(P@)@[-1]}" }; eval "$1"; words=(aloll train variant=r_); CURRENT=3; '
           'PREFIX=variant=r_; _aloll',
    "fish": 'echo $argv[1] | source; complete -C "aloll train variant=r_"',
}  # fmt: skip


@pytest.mark.parametrize("shell", [shell for shell in SCRIPTS if shell == "bash" or shutil.which(shell)])
def test_a_shell_completes_within_a_blink(shell: str):
    options = {
        "bash": ["--norc", "-c", ASK["bash"], "x"],
        "zsh": ["-f", "-c", ASK["zsh"], "x"],
        "fish": ["-N", "-c", ASK["fish"]],
    }
    durations = []
    for _ in range(3):
        start = time.perf_counter()
        command = [shell, *options[shell], script(shell)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        durations.append(time.perf_counter() - start)
        assert "r_gold" in done.stdout
        assert "r_lol" in done.stdout
        assert done.stderr == ""
    assert min(durations) < 1, durations  # 0.1 s on an idle machine


def test_completion_imports_nothing_but_the_standard_library():
    check = (
        "import sys; sys.argv = ['x', 'aloll tr']; import runpy; "
        f"runpy.run_path({str(ROOT / 'aloll_cli/cli/complete.py')!r}, run_name='__main__'); "
        "found = {name.partition('.')[0] for name in sys.modules} - {*sys.stdlib_module_names, '__main__'}; "
        "assert not found, found"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", check], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("train-reference\t")
