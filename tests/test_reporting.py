"""Reports: numbers in tables and on the page, comparisons, and that model output stays text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluated import RESAMPLES, REWARDS, write_run
from hydra.core.global_hydra import GlobalHydra
from pages import page_about
from scipy import stats

from aloll_cli.cli.main import run_command
from aloll_cli.comparison.differences import compared
from aloll_cli.comparison.grouping import methods
from aloll_cli.comparison.runs import load_run
from aloll_cli.reports.model_card import _gains
from aloll_cli.reports.tables import show_comparison, show_methods, show_responses
from aloll_cli.runtime.terminal import results
from aloll_cli.store.manifest import write_manifest

SKILL = {"held_out_rows": 40, "r2": 0.412, "rank_correlation": 0.633, "pairs": 25, "pair_accuracy": 0.72}


def without_scorer(root: Path, seed: int | None = 1) -> Path:
    """A run with logged rewards only: no answer has a reward, and a likelihood stands in for the gain."""
    folder = write_run(root, seed=seed, curves=False)
    metrics, responses = json.loads((folder / "metrics.json").read_text()), load_run(folder).responses
    for side in [row[name] for row in responses for name in ("policy", "reference")] + [metrics["policy"], metrics["reference"]]:
        del side["reward"]
    gain = {"mean": 0.2, "ci95": [0.1, 0.3], "resamples": RESAMPLES}
    metrics |= {"reward": "column", "gain": None, "gain_why": "the reward cannot score new text"}
    metrics |= {"advantage_weighted_log_likelihood": {"policy": -1.25, "reference": -1.45, "gain": gain}}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in responses))
    write_manifest(folder)
    return folder


@pytest.fixture
def fresh_hydra() -> Iterator[None]:
    """Hydra allows one command a process unless told to forget the last."""
    GlobalHydra.instance().clear()
    yield
    GlobalHydra.instance().clear()


@pytest.fixture(params=[80, 200])
def columns(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(results, "width", request.param)
    return int(request.param)


def ruled(text: str) -> list[list[str]]:
    """The tables of a text: blocks of lines around a rule, headings first."""
    blocks = [block.splitlines() for block in text.split("\n\n")]
    return [block for block in blocks if any(set(line.strip()) == {"-"} for line in block)]


def test_the_comparison_shows_means_margins_and_the_paired_gain_as_plain_ascii(tmp_path, capsys, columns):
    metrics = load_run(
        write_run(tmp_path, rewards={f"{kind}{i}": r for i in range(6) for kind, r in (("a", 0.9), ("b", 0.5))})
    ).metrics
    metrics["policy"]["reward"] = {"mean": 0.7, "ci95": [0.6, 0.82]}
    metrics["gain"] |= {"mean": 0.3, "ci95": [0.1, 0.5]}
    show_comparison(metrics, tmp_path)
    out = capsys.readouterr().out
    assert out.isascii()
    assert "\x1b" not in out
    table = ruled("\n\n" + out)[0]
    assert max(map(len, table[:9])) <= columns
    row = next(line for line in table if line.startswith("reward (vader)"))
    assert row.split() == ["reward", "(vader)", "0.700", "+/-0.110", "0.400", "+/-0.000", "+0.300", "[0.100,", "0.500]"]
    assert next(line for line in table if line.startswith("distinct-1 matched")).split()[2:] == ["0.083", "0.083"]
    assert "warning: intervals from fewer than 30 prompts are unreliable; there are 12." in out
    assert "gain +0.300 [0.100, 0.500], paired bootstrap over 12 prompts: the policy's responses score higher" in out
    assert "held-out reward gain: not available (no second reward was named: test_reward=...)" in out


@pytest.mark.slow
def test_few_prompts_have_means_alone_and_no_verdict(tmp_path, capsys, columns):
    few = "3 prompts are too few for an interval or a verdict; 10 are needed"
    folder = write_run(tmp_path)
    metrics = load_run(folder).metrics
    show_comparison(metrics, tmp_path)
    out = " ".join(capsys.readouterr().out.split())
    assert "reward (vader) 0.500 0.400 +0.100 " in out
    assert f"gain +0.100 under vader: {few}." in out
    assert not re.search(r"score (higher|lower)|no significant difference|bootstrap|\+/-|fewer than 30", out)
    page = " ".join(page_about([folder], tmp_path / "page.html").text.split())
    assert f"mean reward gain over the reference policy; {few}" in page
    assert "confidence interval" not in page
    lines = _gains({"reward": "vader", "test_reward": None}, metrics)
    assert lines[0] == f"- gain (`vader`): +0.100, {few}"
    assert "bootstrap" not in "".join(lines)


def test_gains_at_equal_length_logged_perplexity_and_words_are_shown(tmp_path, capsys, columns):
    logged = {side: {"perplexity": {"mean": mean, "ci95": [2.0, 6.0]}} for side, mean in (("policy", 4.0), ("reference", 3.0))}
    controlled = {"mean": 0.05, "ci95": [-0.01, 0.11], "slope": 0.25, "length_difference": 3.5}
    words = {"tokenizer": "zh", "unit": "characters", "option": "auto", "letters": {"a to z": 0.1, "Chinese characters": 0.9}}
    more = {
        "logged_responses": logged, "words": words, "length_controlled_gain": controlled, "length_controlled_held_out_gain": None,
        "length_controlled_held_out_gain_why": "a reason", "rouge_unread": 0.125, "rouge_why": "another",
    }  # fmt: skip
    folder = write_run(tmp_path, metrics=more)
    show_comparison(load_run(folder).metrics, tmp_path)
    out = capsys.readouterr().out
    rows = {re.split(r" {2,}", line)[0]: re.split(r" {2,}", line.rstrip())[1:] for line in out.splitlines()}
    assert rows["reward at equal length"] == ["+0.050 [-0.010, 0.110]"]
    assert rows["perplexity, logged"] == ["4.000 +/-2.000", "3.000 +/-2.000"]
    assert rows["length (characters)"] == ["2.000", "2.000"]
    said = " ".join(out.split())
    assert "words in metrics of text: zh (by the script of the logged responses; their letters: 10.0% a to z, 90.0% Chi" in said
    assert "mean +3.500 characters, gain per standard deviation +0.250" in said
    assert "length-controlled held-out reward gain: not available (a reason)" in said
    assert "ROUGE: not available (another)" in said
    assert "ROUGE counts 12.5% of the logged responses as 0" in said
    assert "reward at equal length" in page_about([folder], tmp_path / "page.html").text


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [([0.1, 0.2], "score higher than"), ([-0.2, -0.1], "score lower than"), ([-0.1, 0.1], "no significant difference between")],
)
def test_the_verdict_follows_the_interval(tmp_path, capsys, interval, verdict):
    metrics = load_run(write_run(tmp_path)).metrics
    metrics["gain"] |= {"ci95": interval}
    show_comparison(metrics, tmp_path)
    assert verdict in capsys.readouterr().out


def test_a_missing_gain_says_why_and_the_likelihood_stands_in(tmp_path, capsys):
    run = load_run(without_scorer(tmp_path))
    show_comparison(run.metrics, tmp_path)
    show_responses(run.responses)
    show_methods(compared([run, load_run(without_scorer(tmp_path, seed=2))]))
    out = capsys.readouterr().out
    assert out.count("gain: not available (the reward cannot score new text)") == 2
    assert re.search("policy +rather good", out)
    assert re.search(r"weighted log-lik\. +-1\.250 +-1\.450 +\+0\.200 \[0\.100, 0\.300\]", out)
    assert "nats per token: policy -1.250, reference -1.450, gain +0.200 [0.100, 0.300]" in out


def test_a_fitted_reward_is_called_a_proxy_with_its_skill(tmp_path, capsys):
    metrics = load_run(write_run(tmp_path)).metrics
    lone = SKILL | {"pairs": 0, "pair_accuracy": float("nan")}
    metrics |= {"reward": "fitted", "test_reward": "other", "proxy_skill": {"reward": SKILL, "test_reward": lone}}
    show_comparison(metrics, tmp_path)
    first, second = [line for line in capsys.readouterr().out.splitlines() if line.startswith("proxy reward:")]
    assert "the reward (fitted)" in first
    assert "40 held-out responses: R2 0.412, rank correlation 0.633, pair accuracy 0.720 over 25 pairs" in first
    assert "the held-out reward (other)" in second
    assert "pair accuracy not available (no prompt has two responses)" in second
    metrics["proxy_skill"] = {"reward": {"held_out_rows": 1, "pairs": 0}}
    show_comparison(metrics, tmp_path)
    missing = "R2 not available, rank correlation not available, pair accuracy not available"
    assert f"1 held-out responses: {missing}" in capsys.readouterr().out


def test_responses_are_never_read_as_markup_and_control_characters_are_shown(capsys, columns):
    hostile = "[bold]loud[/bold] [/nothing] \x1b[31mred\x9b \u202eback \ud800 " + "word " * 60
    sides = {side: {"response": hostile, "reward": 0.25, "test_reward": 0.5} for side in ("policy", "reference")}
    show_responses([{"prompt": "p" * 500 + " the end", **sides}])
    out = capsys.readouterr().out
    assert "[bold]loud[/bold] [/nothing]" in out
    assert "\\x1b[31mred\\x9b \\u202eback" in " ".join(out.split())
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\ud800]", out)
    assert re.search(r"policy +0\.250 +0\.500 ", out)
    assert "the end" in out
    assert "p" * 200 not in out.replace("\n", "")
    assert max(map(len, out.splitlines())) <= columns


def more_figures(offset: float = 0.0) -> dict[str, Any]:
    """What evaluate adds about one side where all of it applies."""
    names = ("bleu", "rouge_1", "rouge_2", "rouge_l", "coverage", "density", "perplexity", "kl", "kl_per_token")
    return {name: {"mean": k + offset, "ci95": [k - 0.5, k + 0.5]} for k, name in enumerate(names)}


def with_subsets(root: Path, variant: str = "seq") -> Path:
    """A run on two parts of the data with every figure."""
    folder = write_run(root, variant)
    metrics = json.loads((folder / "metrics.json").read_text())
    for side in ("policy", "reference"):
        metrics[side] |= more_figures(0.25 if side == "policy" else 0.0)
    gains = {"harmless-base": 0.125, "helpful-rejection-sampled": -0.375}
    metrics["by"] = {
        name: {
            "n": 1234, "policy": {"reward": {"mean": 0.5 + gain, "ci95": [0.1, 0.9]}},
            "reference": {"reward": {"mean": 0.5, "ci95": [0.4, 0.6]}}, "held_out_gain": None,
            "gain": {"mean": gain, "ci95": [gain - 0.1, gain + 0.1]},
        }
        for name, gain in gains.items()
    }  # fmt: skip
    (folder / "metrics.json").write_text(json.dumps(metrics | {"references": "best"}))
    write_manifest(folder)
    return folder


def test_metrics_against_references_and_of_subsets_fit_the_table(tmp_path, capsys, columns):
    show_comparison(load_run(with_subsets(tmp_path)).metrics, tmp_path)
    out = capsys.readouterr().out
    tables = out.split("gain +0.100")[0]
    assert max(map(len, tables.splitlines())) <= min(columns, 80)
    rows = {re.split(r" {2,}", line)[0]: re.split(r" {2,}", line.rstrip())[1:] for line in tables.splitlines()}
    assert rows["ROUGE-L"] == ["3.250 +/-0.500", "3.000 +/-0.500"]
    assert rows["KL per token (nats)"] == ["8.250 +/-0.500", "8.000 +/-0.500"]
    assert rows["helpful-rejection-sampled (1234)"] == ["0.125", "0.500", "-0.375 [-0.475, -0.275]"]
    assert {"reward by subset", "harmless-base (1234)", "BLEU", "coverage", "density", "perplexity"} <= rows.keys()
    assert "held-out reward by subset" not in out
    assert "BLEU, ROUGE: compared with the best logged response to each prompt" in " ".join(out.split())


def test_figures_that_do_not_apply_are_not_shown(tmp_path, capsys):
    metrics = load_run(write_run(tmp_path)).metrics
    for side in ("policy", "reference"):
        metrics[side] |= dict.fromkeys(("coverage", "density", "perplexity", "kl", "kl_per_token"))
    show_comparison(metrics | {"by": None}, tmp_path)
    assert not re.search("coverage|perplexity|KL|BLEU|by subset", capsys.readouterr().out)


def test_runs_are_compared_by_subset_and_by_their_kl_to_the_reference(tmp_path, capsys, columns):
    show_methods(compared([load_run(with_subsets(tmp_path, "nll")), load_run(write_run(tmp_path, "seq"))]))
    out = capsys.readouterr().out
    assert "gain, harmless-base" in out
    assert "+0.125 [0.025, 0.225]" in out
    assert "8.250 [7.500, 8.500]" in out
    assert "KL per token: mean of ln(policy / reference)" in " ".join(out.split())
    assert max(len(line) for table in ruled(out.replace("interval]\n", "interval]\n\n")) for line in table) <= columns


@pytest.mark.slow
def test_the_page_shows_subsets_of_the_data(tmp_path):
    page = page_about([with_subsets(tmp_path)], tmp_path / "page.html")
    assert "Each subset of the data" in page.text
    assert "helpful‑rejection‑sampled (1234)" in page.text
    assert "ROUGE‑L" in page.text
    assert "Each subset of the data" not in page_about([write_run(tmp_path, "kl")], tmp_path / "other.html").text


def test_load_run_finds_the_curves_by_the_recipe_and_does_without(tmp_path):
    run = load_run(write_run(tmp_path))
    assert [record["loss"] for record in run.updates] == [9, 4.5, 3]
    assert run.evaluations == [{"update": 0, "score": 0.0}, {"update": 3, "score": 0.3}]
    assert run.kept == 0.468
    assert run.score == "reward"
    assert run.made_of["policy"].startswith("seq-s1-")
    bare = load_run(write_run(tmp_path, seed=2, curves=False))
    assert (bare.updates, bare.evaluations, bare.kept) == ([], [], None)


def test_the_table_of_runs_fits_its_width_and_holds_every_figure(tmp_path, capsys, columns):
    nll, other = ({f"{prompt}{i}": reward for i in range(4) for prompt, reward in rewards.items()} for rewards in (
        {"a": 0.9, "b": 0.5, "c": 0.1}, {"a": 1.0, "b": 1.0, "c": 0.5},
    ))  # fmt: skip
    runs = [load_run(write_run(tmp_path, "nll", 1, nll)), load_run(write_run(tmp_path, "ref_free", 1, other))]
    show_methods(compared(runs))
    out = capsys.readouterr().out
    assert out.isascii()
    tables = ruled(out.replace("interval]\n", "interval]\n\n"))
    assert len(tables) == (2 if columns == 200 else 4)
    assert all(len(line) <= columns for table in tables for line in table)
    assert all(table[0].startswith("variant") for table in tables)
    assert "vs nll" in out
    assert "held-out reward gain" not in out
    cells = [
        cell for table in tables for line in table if line.startswith("ref_free") for cell in re.split(r" {2,}", line.strip())
    ]
    low, high = (f"{bound:.3f}" for bound in stats.ttest_1samp(np.tile([0.1, 0.5, 0.4], 4), 0).confidence_interval())
    # (1.0 − 0.9 + 1.0 − 0.5 + 0.5 − 0.1) / 3 = 0.333, and 2.5 / 3 − 0.4 = 0.433 over the reference
    assert f"+0.333 [{low}, {high}]" in cells
    assert any(cell.startswith("0.833 [") for cell in cells)
    assert any(cell.startswith("+0.433 [") for cell in cells)
    # length, distinct-1 ratio, unique responses of twelve, share of data used
    assert {"2.000", "1.000", "0.083", "0.468"} <= set(cells)


def test_the_page_of_one_run_shows_metrics_curves_responses_and_configuration(tmp_path):
    folder = write_run(tmp_path, metrics={"reward": "fitted", "proxy_skill": {"reward": SKILL}})
    page = page_about([folder], tmp_path / "page.html")
    gain = load_run(folder).metrics["gain"]
    assert page.text.count(f"{gain['mean']:+.3f}") >= 3  # as headline, in the table, in the sentence under it
    assert "proxy reward: the reward (fitted)" in page.text
    titles = ("Validation score", "Training loss", "Distance to the reference", "Importance ratio", "Clipped ratios")
    assert all(title in page.text for title in titles)
    assert page.text.count("rather good") == page.text.count("rather bad") == len(REWARDS)
    assert "reward 0.900" in page.text
    assert "lr: 0.001" in page.text
    assert folder.name in page.text
    assert all("scope" in found for tag, found in page.tags if tag == "th")
    drawn = [found for tag, found in page.tags if tag == "svg" and found.get("role") == "img"]
    assert len(drawn) == len(titles) + 4  # and four of rewards
    assert all(found["aria-label"] for found in drawn)
    assert "Validation score by training step: seq s1 from 0.000 to 0.300." in page.text
    ids = [found["id"] for _, found in page.tags if "id" in found]
    assert len(set(re.findall(r"#(m[0-9a-f]{10})", page.source)) - set(ids)) == 0


def test_the_page_shows_curves_of_the_kl_and_of_repeated_responses_and_that_a_run_stopped_early(tmp_path):
    stopped = {"after": 3, "of": 9, "patience": 2}
    folder = write_run(tmp_path, metrics={"stopped_early": stopped})
    (file,) = tmp_path.glob("policy/*/evaluations.jsonl")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    for row, kl in zip(rows, (0.0, 0.125), strict=True):
        row |= {"kl_per_token": kl, "repeated": kl / 2, "objective": None}
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = page_about([folder], tmp_path / "page.html")
    assert "Validation KL to the reference by training step: seq s1 from 0.000 to 0.125." in page.text
    assert "Repeated responses by training step: seq s1 from 0.000 to 0.062." in page.text
    assert "training stopped early, after step 3 of 9: no better checkpoint in 2 evaluations (early_stop)." in page.text
    assert load_run(folder).validation == 0.0  # the initial policy was kept


def test_runs_of_before_select_had_options_are_runs_of_the_same_method(tmp_path):
    before = write_run(tmp_path, seed=1, options={"select": "best"})
    after = write_run(tmp_path, seed=2, options={"select": {"name": "best", "kl_weight": 0.0, "max_repeated": None}})
    (method,) = methods([load_run(folder) for folder in (before, after)])
    assert len(method.runs) == 2


def test_what_only_some_steps_log_is_drawn_over_those(tmp_path):
    folder = write_run(tmp_path, "ppo")
    (file,) = tmp_path.glob("policy/*/metrics.jsonl")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    for row, reward in ((rows[0], 0.25), (rows[2], 0.75)):
        row["sampled_reward"] = reward
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = page_about([folder, write_run(tmp_path, "seq")], tmp_path / "page.html")
    assert "Rollout reward by training step: ppo s1 from 0.250 to 0.750." in page.text
    assert "Rollout KL" not in page.text


def test_the_page_of_several_runs_holds_the_paired_difference(tmp_path):
    folders = [write_run(tmp_path, "nll"), write_run(tmp_path, "seq", rewards={"a": 1.0, "b": 0.4, "c": 0.1}, response="so so")]
    page = page_about(folders, tmp_path / "page.html")
    assert "2 runs on reviews" in page.text
    assert "vs nll" in page.text
    # (0.1 − 0.1 + 0) / 3 = 0, and 0.5 − 0.4 = 0.1 over the reference
    assert "+0.000" in page.text
    assert "Gain over the reference: nll reward gain +0.100; seq reward gain +0.100." in page.text
    assert page.text.count("so so") == len(REWARDS)


def test_the_page_does_without_curves_and_without_a_scorer(tmp_path):
    folders = [without_scorer(tmp_path, seed) for seed in (1, None)]
    page = page_about(folders, tmp_path / "page.html")
    assert "Trainer" not in page.text
    assert "gain: not available (the reward cannot score new text" in page.text
    assert "weighted log‑lik. gain" in page.text
    assert "gain: not available" in page_about(folders[:1], tmp_path / "one.html").text


@pytest.mark.slow
def test_aloll_report_compares_finished_runs_and_refuses_damaged_ones(tmp_path, capsys, fresh_hydra):
    folders = [write_run(tmp_path, "seq", seed) for seed in (1, 2)]
    command = ["report", f"runs=[{','.join(map(str, folders))}]", f"output_dir={tmp_path}"]
    assert run_command(command) == 0
    out = capsys.readouterr().out
    assert re.search(r"\nseq +1,2 ", out)
    (page,) = (tmp_path / "reviews" / "report").glob("*.html")
    assert "2 runs on reviews" in page.read_text()
    before, third = page.read_bytes(), write_run(tmp_path, "seq", 3)
    GlobalHydra.instance().clear()
    assert run_command(["report", f"runs=[{folders[0]},{third}]", f"output_dir={tmp_path}"]) == 0
    assert len([*page.parent.glob("*.html")]) == 2
    assert page.read_bytes() == before
    capsys.readouterr()
    (folders[1] / "answers.jsonl").write_text("")
    GlobalHydra.instance().clear()
    assert run_command(command) == 2
    err = capsys.readouterr().err
    assert f"{folders[1]} is damaged: answers.jsonl has 0 bytes" in err
