"""The catalogue of options, and what is made from it: help, docs/options.md and shell completion."""

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from make_options import FILES, ROOT
from omegaconf import OmegaConf
from running import run
from tiny import some_slow

from aloll_cli.cli.commented import read
from aloll_cli.cli.complete import completions
from aloll_cli.cli.completion import SCRIPTS, script
from aloll_cli.cli.elsewhere import BY_STAGE, CHOICES, ELSEWHERE, OFF, OURS
from aloll_cli.cli.flags import FLAGS
from aloll_cli.cli.hints import catalogue, example
from aloll_cli.cli.main import run_command
from aloll_cli.cli.options import MISSING, Catalogue
from aloll_cli.cli.parsing import Parser
from aloll_cli.cli.showing import annotated
from aloll_cli.cli.validation import register
from aloll_cli.command import Command
from aloll_cli.schema import flatten
from aloll_cli.settings.groups import GROUPS
from aloll_cli.settings.root import Settings
from aloll_cli.stages import EVERYWHERE, RUNNING, STAGES, command_of

CATALOGUE = Catalogue()
TABLE = json.loads((ROOT / "aloll_cli/cli/completion.json").read_text())


@pytest.fixture(autouse=True)
def fresh_hydra() -> Iterator[None]:
    """Hydra allows one command a process unless told to forget the last."""
    yield
    GlobalHydra.instance().clear()


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


def test_the_help_of_a_stage_begins_with_its_own_options_and_folds_those_before_it(capsys: pytest.CaptureFixture[str]):
    run_command(["train", "updates=77", "variant=kl", "--help"])
    out = capsys.readouterr().out
    assert out.splitlines()[0].startswith("aloll train: train a policy")
    assert (
        out.index("  updates=77") < out.index("  variant.beta=") < out.index("  variant=kl") < out.index("Options of all stages")
    )
    assert "    nll " in out
    assert "variant.clip" not in out
    assert "reference.updates" not in out
    assert "aloll train --help all" in out
    assert max(map(len, out.splitlines())) <= 80
    run_command(["train", "--help", "all"])
    everything = capsys.readouterr().out
    assert "  reference.updates=1200" in everything
    assert "Options of train-reference" in everything
    assert all(f"  {key}=" in everything for key in RUNNING)


@pytest.mark.parametrize("stage", some_slow(STAGES))
def test_every_stage_has_a_help_that_fits_the_screen(capsys: pytest.CaptureFixture[str], stage: str):
    run_command([stage, "-h"])
    out = capsys.readouterr().out
    assert all(f"  {option}=" in out for option in STAGES[stage].options)
    assert all(f"  {group}=" in out for group in STAGES[stage].groups)
    assert max(map(len, out.splitlines())) <= 80
    assert "schema" not in out


@pytest.mark.parametrize("stage", ["ls", "clean"])
def test_a_stage_that_builds_nothing_shows_only_what_it_takes(capsys: pytest.CaptureFixture[str], stage: str):
    run_command([stage, "--help"])
    out = capsys.readouterr().out
    assert "GROUP=CHOICE" not in out
    assert "--help all" not in out
    assert set(re.findall(r"^  (\w+)=", out, re.MULTILINE)) == {*STAGES[stage].options, *EVERYWHERE}


@pytest.mark.parametrize(
    ("words", "same"),
    some_slow(
        [
            (["help"], []),
            (["help", "inspect"], ["inspect", "--help"]),
            (["--help", "inspect"], ["inspect", "--help"]),
            (["help", "train", "variant=kl"], ["train", "--help", "variant=kl"]),
            (["help", "train", "all"], ["train", "--help", "all"]),
            (["--help", "all"], ["run", "--help", "all"]),
        ]
    ),
)
def test_help_may_be_asked_for_in_several_ways(capsys: pytest.CaptureFixture[str], words: list[str], same: list[str]):
    told = []
    for arguments in (words, same):
        assert run_command(arguments) == 0
        told.append(capsys.readouterr().out)
    assert told[0] == told[1]
    assert told[0]


def test_help_says_what_one_loss_of_a_variant_is_of_and_where_the_method_comes_from(capsys: pytest.CaptureFixture[str]):
    run_command(["train", "--help"])
    out = capsys.readouterr().out
    assert "    seq: one loss per response, from Baheti et al. 2024, arXiv 2305.14718\n" in out
    assert "base class" not in out
    found = {name: CATALOGUE.choice("variant", name).background for name in CATALOGUE.names("variant")}
    groups = ("dpo", "dpo_ref_free", "ipo", "rebel", "pro", "infonca", "nca")
    units = dict.fromkeys(groups, "prompt, with all its responses") | dict.fromkeys(
        ("ppo", "rloo", "grpo"), "response of a rollout"
    )
    for name, background in found.items():
        assert background.startswith(f"one loss per {units.get(name, 'response')}, from ")
        assert re.search(r" (19|20)\d\d, arXiv \d{4}\.\d{5}", background)


def test_a_description_says_what_an_option_does_and_begins_with_no_name_of_a_stage():
    begins = re.compile(rf"(?:{'|'.join(STAGES)})(?:, (?:{'|'.join(STAGES)}))*:|(?:true|false|null):")
    assert [option.key for option in CATALOGUE.options if begins.match(option.what)] == []


def test_a_flag_is_declared_once_and_explained_alike_everywhere(capsys: pytest.CaptureFixture[str]):
    known = {name for action in Parser(Command("run"))._actions for name in action.option_strings}
    assert known == {name for flag in FLAGS for name in flag.names}
    page = (ROOT / "docs/command-line.md").read_text()
    run_command([])
    (usage,) = (" ".join(capsys.readouterr().out.split()),)
    for flag in FLAGS:
        assert f"| {', '.join(f'`{name}`' for name in flag.names)}{f' `{flag.value}`' * bool(flag.value)} | {flag.what}" in page
        assert f"{flag.shown} {flag.what}" in usage
        assert all(TABLE["flags"][name] == flag.what for name in flag.names if name.startswith("--"))


@pytest.mark.slow
def test_a_sweep_without_values_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.chdir(tmp_path)
    said = {values: (run_command(["ls", "-m", f"seed={values}"]), capsys.readouterr().err)[1] for values in ("1", "1,2")}
    warning = "warning: -m runs once for each combination of the values in OPTION=a,b; here no option has several values"
    assert {values: warning in err for values, err in said.items()} == {"1": True, "1,2": False}


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["--help all | head -1; exit ${PIPESTATUS[0]}", "--help >&-"])
def test_a_reader_that_goes_away_or_a_closed_stdout_ends_a_command_in_silence(ending: str):
    command = f"{sys.executable} -m aloll_cli train {ending}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_hydra_has_a_help_of_its_own(tmp_path: Path):
    out, _ = run(tmp_path, "train", "--hydra-help")
    assert "== Flags ==" in out


def test_python_m_is_the_command():
    done = subprocess.run([sys.executable, "-m", "aloll_cli", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("aloll ")


@pytest.mark.slow
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
    for template in [*ELSEWHERE, *OFF, *(template for found in BY_STAGE.values() for template in found)]:
        for word in template.split():
            assert word.partition("=")[0] in known, word
    assert set(BY_STAGE) <= set(STAGES)
    for group, found in CHOICES.items():
        assert set(found) <= set(CATALOGUE.names(group))
        assert not set(" ".join(found.values()).split()) & set(CATALOGUE.names(group))


def test_a_command_that_a_hint_names_has_only_options_that_its_stage_reads():
    shared = ["--config-dir", "own", "-q", "task=hha", "reward=fitted", "+reward.alpha=2", "experiment=hha_small"]
    words = [*shared, "seed=2", "variant.beta=0.1", "test_reward=length", "split=validation", "format=json", "upstream=require"]
    command = command_of("evaluate", words)
    assert str(command.but("score-rewards", "upstream")) == f"aloll score-rewards {' '.join(shared)}"
    assert str(command.but("train", "upstream")) == f"aloll train {' '.join(shared)} seed=2 variant.beta=0.1"
    assert str(command.but("ls")) == "aloll ls --config-dir own -q"
    assert str(command) == "aloll evaluate " + " ".join(words)


def test_an_example_is_a_value_that_the_option_may_have():
    examples = ["seed=1", "select=best", "optimizer.lr=3e-4", "max_hours=1", "runs=[RUNS]", "variant.clip=0.9"]
    assert [example(typed.partition("=")[0]) for typed in examples] == examples
    assert example("nosuch.key") == "nosuch.key=KEY"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("aloll tr", ["train-reference", "train"]),
        ("aloll completion ", ["bash", "zsh", "fish"]),
        ("aloll help insp", ["inspect"]),
        ("aloll train --help al", ["all"]),
        ("aloll ls --help al", []),
        ("aloll train vari", ["variant="]),
        ("aloll train variant=r_", ["variant=r_gold", "variant=r_lol"]),
        ("aloll train variant=kl variant.", ["variant.beta=", "variant.estimator="]),
        ("aloll train variant=kl variant.estimator=", ["variant.estimator=k1", "variant.estimator=k2"]),
        ("aloll run -m variant=nll,se", ["variant=nll,seq"]),
        ("aloll train weight_loss=", ["weight_loss=true", "weight_loss=false"]),
        ("aloll train attn=n", ["attn=null"]),
        ("aloll run reward=mixed reward.parts.mood=va", ["reward.parts.mood=vader"]),
        ("aloll run test_reward=va", ["test_reward=vader"]),
        ("aloll run experiment=hha", ["experiment=hha_small", "experiment=hha_smollm2"]),
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
