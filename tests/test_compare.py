"""``aloll compare`` on folders of evaluated runs: which it takes, what it prints, and what it refuses."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from evaluated import write_run
from hydra.core.global_hydra import GlobalHydra
from running import SMALL, quick
from tiny import composed, some_slow

from aloll_cli.cli.main import run_command
from aloll_cli.runtime.terminal import results
from aloll_cli.schema import plain
from aloll_cli.store.manifest import write_manifest

Aloll = Callable[..., tuple[str, str]]


@pytest.fixture
def aloll(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Aloll]:
    """Runs a command in an empty folder, on a terminal of 80 columns; returns stdout and stderr."""
    composed()  # before the command line has a Hydra of its own
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(results, "width", 80)

    def told(*arguments: str, code: int = 0) -> tuple[str, str]:
        GlobalHydra.instance().clear()
        found = run_command(list(arguments))
        out, err = capsys.readouterr()
        assert found == code, err
        return out, err

    yield told
    GlobalHydra.instance().clear()


def write(
    variant: str,
    seed: int = 1,
    reward: float = 0.5,
    lr: float = 0.1,
    prompts: str = "abcdefghijkl",
    root: str = "outputs/reviews",
    **more: Any,
) -> Path:
    """An evaluated run as the configuration without overrides would judge it, with one reward for all of its answers."""
    judged = {"reward": plain(composed().reward), "test_reward": None, "optimizer": {"name": "adamw", "lr": lr}}
    rewards = dict.fromkeys(prompts, reward)
    return write_run(Path(root), variant, seed, rewards, options=judged | more.pop("options", {}), **more)


def cells(out: str, heading: str) -> dict[str, str]:
    """What stands under a heading, by the first cell of its row."""
    for block in out.split("\n\n"):
        lines = block.strip().splitlines()
        rule = next((i for i, line in enumerate(lines) if set(line) == {"-"}), None)
        headings = re.split(" {2,}", lines[rule - 1]) if rule else []
        if heading in headings:
            found = [re.split(" {2,}", line.strip()) for line in lines[rule + 1 :]]
            return {row[0]: row[headings.index(heading)] for row in found if len(row) == len(headings)}
    raise AssertionError(f"no column {heading}:\n{out}")


@pytest.mark.slow
def test_by_default_every_run_with_the_same_split_and_rewards_is_compared(aloll):
    for seed in (1, 2):
        write("nll", seed, 0.4 + seed / 10)
        write("seq", seed, 0.5 + seed / 10)
    write("kl", options={"reward": {"name": "length"}}, metrics={"reward": "length"})
    write("wbc", metrics={"split": "validation"})
    out, err = aloll("compare")
    assert "4 runs: mean [95% confidence interval]" in out
    assert all(len(line) <= 80 for line in out.split("gain: mean reward")[0].splitlines())
    assert cells(out, "seed") == {"nll": "1,2", "seq": "1,2"}
    assert cells(out, "gain") == {"nll": "+0.150 [-0.485, 0.785]", "seq": "+0.250 [-0.385, 0.885]"}
    assert cells(out, "gain by seed") == {"nll": "+0.100 to +0.200", "seq": "+0.200 to +0.300"}
    assert cells(out, "vs nll") == {"nll": "-", "seq": "+0.100 [0.100, 0.100]"}
    assert cells(out, "tokens trained on") == {"nll": "1,500", "seq": "1,500"}
    assert re.search(r"left out 2, because the rewards, split or prompts differ: kl-s1-test-\w+, wbc-s1-test-", err)
    (page,) = Path("outputs/reviews/report").glob("compare-*.html")
    assert "nll reward gain +0.150; seq reward gain +0.250." in page.read_text()
    assert json.loads(page.with_suffix(".json").read_text())["methods"][1]["difference"]["by_seed"] == pytest.approx([0.1, 0.1])


@pytest.mark.slow
def test_of_runs_on_different_prompts_those_of_the_majority_remain(aloll):
    write("kl", prompts="cd")
    write("nll")
    write("seq")
    out, err = aloll("compare")
    assert set(cells(out, "length (words)")) == {"nll", "seq"}
    assert "left out 1, because the rewards, split or prompts differ: kl-s1-test-" in err


@pytest.mark.slow
def test_patterns_are_expanded_and_interrupted_evaluations_are_no_runs(aloll):
    first = write("nll")
    shutil.copytree(write("seq"), first.with_name("seq-s9-test-0123456789ab.partial"))
    write("seq", 2)
    write("kl", 1, 0.9, root="elsewhere")
    out, _ = aloll("compare", "runs=[outputs/reviews/metrics/seq-s?-*,elsewhere/metrics/*]", "against=seq")
    assert "3 runs" in out
    assert cells(out, "seed") == {"seq": "1,2", "kl": "1"}
    assert cells(out, "vs seq") == {"seq": "-", "kl": "+0.400 [0.400, 0.400]"}
    assert "3 runs" in aloll("report", "runs=[outputs/*/metrics/*]")[0]


@pytest.mark.slow
def test_runs_may_be_compared_with_a_folder_that_is_not_among_them(aloll):
    write("seq", 1, 0.75)
    other = write("kl", 1, 0.5, root="elsewhere")
    out, _ = aloll("compare", f"against={other}")
    assert cells(out, "vs kl") == {"seq": "+0.250 [0.250, 0.250]", "kl": "-"}


@pytest.mark.slow
def test_the_choice_of_an_option_is_shown_with_its_scores(aloll):
    for lr, score in ((0.1, 0.3), (0.2, 0.4)):
        write("nll", 1, 0.5, lr, scores=(0.0, 0.5 - lr))
        write("seq", 1, 0.9 - lr, lr, scores=(0.0, score))
    out, _ = aloll("compare", "best_of=optimizer.lr")
    assert cells(out, "optimizer.lr") == {"nll": "0.1", "seq": "0.2"}
    assert cells(out, "validation score") == {"nll": "0.400", "seq": "0.400"}
    assert "seq: optimizer.lr=0.2 has the best validation reward, 0.400 (optimizer.lr=0.1: 0.300)." in out
    assert aloll("compare", "best_of=[optimizer.lr]")[0] == out


@pytest.mark.slow
def test_format_json_prints_the_same_as_one_object(aloll):
    write("nll", 1, 0.5)
    write("seq", 1, 0.75)
    out, _ = aloll("compare", "format=json")
    found = json.loads(out)
    (file,) = Path("outputs/reviews/report").glob("compare-*.json")
    assert found == json.loads(file.read_text())
    assert (found["task"], found["reward"], found["n"], found["best_of"]) == ("reviews", "vader", 12, None)
    nll, seq = found["methods"]
    assert (nll["variant"], nll["against"], nll["difference"]) == ("nll", None, None)
    assert (seq["against"]["variant"], seq["against"]["seeds"]) == ("nll", [1])
    assert seq["difference"]["mean"] == pytest.approx(0.25)
    assert seq["cost"] == {"updates": 3, "tokens": 1500, "seconds": 7.5, "samples": 0, "sampled_tokens": 0}
    assert seq["distinct_1_share"] == 1.0


@pytest.mark.slow
def test_a_job_of_a_sweep_reports_on_itself_and_its_end_chooses(undisturbed, tmp_path):
    shutil.copytree(undisturbed, tmp_path / "outputs")
    sweep = ["run", "-m", *SMALL, "optimizer.lr=0.0001,0.0003", "best_of=optimizer.lr", "against=seq"]
    out, err = quick(tmp_path, *sweep)
    assert err.count("report    outputs/reviews/report/seq-s1-test-") == 2
    assert "1 run: mean [95% confidence interval]" in out
    assert "has the best validation reward" in out


MISTAKES = {
    "against=kll": r"against=kll: no run has this variant, and no such folder exists\.\nVariants of the runs: nll, seq\.",
    "against=nowhere/x": r"against: nowhere/x has no metrics\.json\.\nName metrics folders such as",
    "against=outputs/reviews/metrics/*": r"against=outputs/reviews/metrics/\* matches 2 folders\.\nName one folder",
    "best_of=optimizer.rl": r'there is no option "optimizer\.rl" under "optimizer"\.\nDid you mean optimizer\.lr\?',
    "best_of=optimizer.lr": r"best_of=optimizer\.lr: all runs have the same value of this option\.",
    "split=validation": r"no evaluation on the validation split with reward=vader\.\nMake two with aloll run -m variant=nll,seq",
    "runs=[outputs/reviews/metrics/nll*]": r"nll-s1-test-\w+ is the only evaluated run: there is no other run to compare it with",
    "runs=[outputs/*/metrics/*,hha/metrics/*]": r"has task=reviews, kl-s1-test-\w+ has task=hha\.\nName runs with the same task",
    "runs=[outputs/*/metrics/*,others/metrics/*]": r"kl-s1-test-\w+ were evaluated on different prompts\.\nName runs with",
    "runs=[old]": r"old was written by another version of aloll\.\nRebuild it with aloll evaluate",
}  # fmt: skip


@pytest.mark.parametrize("argument", some_slow(MISTAKES))
def test_what_cannot_be_compared_is_refused_in_a_few_lines(aloll, argument):
    write("nll")
    shutil.copytree(write("seq"), "old")
    recipe = Path("old/recipe.json")
    recipe.write_text(json.dumps(json.loads(recipe.read_text()) | {"version": 1}))
    write_manifest(Path("old"))
    write("kl", root="hha", metrics={"task": "hha"})
    write("kl", root="others", prompts="cd")
    _, err = aloll("compare", argument, code=2)
    assert re.search(MISTAKES[argument], err), err
    assert 2 <= len(err.rstrip().splitlines()) <= 4, err
    assert not Path("outputs/reviews/report").exists()
