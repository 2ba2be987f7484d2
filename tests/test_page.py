"""The page about evaluated runs: its figures are those of the files, and nothing that it shows can run."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from evaluated import REWARDS, write_run
from pages import ATTACK, Page, hostile_runs, page_about
from tiny import some_slow

from aloll_cli import UserError
from aloll_cli.artifacts.logged_prompts import best_logged
from aloll_cli.comparison.builds import builds_of
from aloll_cli.comparison.differences import compared
from aloll_cli.comparison.logged import logged_responses, training_signals
from aloll_cli.comparison.rounds import Round
from aloll_cli.comparison.runs import Run, load_run
from aloll_cli.reports.browser import content
from aloll_cli.reports.curves import curves
from aloll_cli.reports.distributions import distributions
from aloll_cli.reports.first_screen import cards
from aloll_cli.reports.page import name_of, render, write_page
from aloll_cli.reports.text import duration
from aloll_cli.reports.wins import wins
from aloll_cli.schema import fingerprint
from aloll_cli.store.built import BUILD, About, noting
from aloll_cli.store.manifest import write_manifest


@pytest.mark.parametrize("count", [1, 2])
def test_what_a_model_wrote_stays_text_on_the_page(tmp_path: Path, count: int):
    folders = hostile_runs(tmp_path)[:count]
    page = page_about(folders, tmp_path / "page.html")
    assert not {"img", "iframe", "object", "base", "form"} & {tag for tag, _ in page.tags}
    assert len(page.scripts) == 2
    assert "<script>alert" not in page.source
    assert "&lt;script&gt;alert(" in page.source
    assert ATTACK + "\\x00\\ud800" in page.text
    assert page.content["rows"][0][2][0] == ATTACK + "\\x00\\ud800"
    assert page.content["prompts"][0][0] == ATTACK
    assert str(tmp_path) not in page.source.replace(f"output_dir: {tmp_path}", "")


@pytest.mark.parametrize("count", some_slow([1, 2]))
def test_the_page_runs_its_own_script_alone_and_asks_for_nothing_from_outside(tmp_path: Path, count: int):
    page = page_about([write_run(tmp_path, "seq", seed, curves=count == 1) for seed in range(count)], tmp_path / "page.html")
    links = {value for _, found in page.tags for name, value in found.items() if name in ("src", "href", "srcset", "action")}
    assert "data:," in links
    assert all(link.startswith(("#", "data:")) for link in links if link)
    namespaces = r'xmlns(:xlink)?="http://www\.w3\.org/[a-z0-9/]+"'
    assert not re.search(r"(https?:)//\w|@import|url\((?!#)", re.sub(namespaces, "", page.source))
    assert "browser" in {str(found.get("id")) for _, found in page.tags if "hidden" in found}  # until the script runs
    inside = page.source[page.source.index("<noscript>") : page.source.index("</noscript>")]
    assert inside.count("rather bad") == len(REWARDS)
    rules = dict(rule.split(" ", 1) for rule in page.policy.split("; "))
    digests = {
        name: f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
        for name, text in (("script-src", page.scripts[1]), ("style-src", page.style))
    }
    assert rules == {"default-src": "'none'", "img-src": "data:", "base-uri": "'none'", "form-action": "'none'"} | digests
    # what that policy forbids would be missing from the page
    assert [found for _, found in page.tags if any(name == "style" or name.startswith("on") for name in found)] == []


@pytest.mark.slow
def test_every_response_is_on_the_page_with_its_rewards_and_their_mean_is_that_of_the_metrics(tmp_path: Path):
    rewards = {f"prompt {i}": float(np.sin(i)) for i in range(60)}
    folder = write_run(tmp_path, rewards=rewards, curves=False)
    metrics = json.loads((folder / "metrics.json").read_text())
    page = page_about([folder], tmp_path / "page.html")
    assert page_about([folder], tmp_path / "again.html").source == page.source
    found = page.content
    assert found["sides"] == ["reference", "seq"]
    assert found["scores"] == ["reward"]
    assert [prompt for prompt, *_ in found["prompts"]] == [*rewards]
    assert [policy for _, _, policy in found["rows"]] == [["rather good", round(reward, 6)] for reward in rewards.values()]
    gains = [policy[1] - reference[1] for _, reference, policy in found["rows"]]
    assert np.mean(gains) == pytest.approx(metrics["gain"]["mean"], abs=1e-6)
    lo, hi = (f"{bound:.3f}".replace("-", "−") for bound in metrics["gain"]["ci95"])
    assert f"95% confidence interval {lo} to {hi} over 60 prompts" in page.text
    assert f"{metrics['gain']['mean']:+.3f}".replace("-", "−") in page.text
    won = sum(gain > 0 for gain in gains)
    assert f"Wins {won} ({won / 60:.1%}), ties 0 (0.0%), losses {60 - won} ({1 - won / 60:.1%})" in page.text


def many(gain: float) -> Run:
    return gain_of({"mean": gain, "ci95": [gain - 0.1, gain + 0.1]})


def gain_of(gain: dict[str, Any] | None, **more: Any) -> Run:
    """A run of no files with this gain over 40 prompts."""
    side = {"reward": {"mean": 0.5, "ci95": [0.4, 0.6]}, "length": {"mean": 4.0, "ci95": None}}
    side |= {"different": 1.0, "distinct_1_matched": 0.5, "ended": 1.0}
    metrics = {
        "task": "reviews", "variant": "seq", "seed": 1, "split": "test", "reward": "vader", "test_reward": None, "n": 40,
        "words": {"unit": "words", "tokenizer": "13a"}, "policy": side, "reference": side, "gain": gain, "held_out_gain": None,
    }  # fmt: skip
    empty: dict[str, Any] = dict.fromkeys(("responses", "updates", "rounds", "evaluations"), [])
    nothing: dict[str, Any] = dict.fromkeys(("made_of", "method", "scorers"), {})
    return Run(
        folder=Path("no/metrics/seq"), metrics=metrics | more, score="reward", keeps_best=True, yaml="", **empty, **nothing
    )


@pytest.mark.parametrize(
    ("gain", "headline", "tone"),
    [(0.2, "Higher reward", "up"), (-0.2, "Lower reward", "down"), (0.05, "No significant difference", "")],
)
def test_the_first_screen_is_no_more_certain_than_the_interval(gain: float, headline: str, tone: str):
    worked, gained, cost = cards(compared([many(gain)]))
    assert (worked.headline, worked.tone, gained.tone) == (headline, tone, tone)
    assert gained.headline == f"{gain:+.3f}".replace("-", "−")
    said = " ".join(worked.lines)
    assert "One seed: the interval covers the prompts alone, and another seed may give another result." in said
    assert "No held-out reward: whether the policy exploits the reward is not known." in said
    assert cost.headline == "Not recorded"


def test_the_first_screen_tells_a_held_out_reward_few_prompts_and_a_missing_scorer():
    held = {"mean": -0.01, "ci95": [-0.02, 0.03]}
    worked, *_ = cards(compared([gain_of({"mean": 0.2, "ci95": [0.1, 0.3]}, test_reward="other", held_out_gain=held)]))
    assert "Held-out reward (other): no significant difference, −0.010 [−0.020, 0.030]." in worked.lines
    worked, gained, _ = cards(compared([gain_of({"mean": 0.2, "ci95": None}, n=4)]))
    assert (worked.headline, worked.tone) == ("No verdict", "")
    assert "4 prompts are too few for an interval or a verdict; 10 are needed." in worked.lines
    assert gained.headline == "+0.200"
    worked, gained, _ = cards(compared([gain_of(None, gain_why="the reward cannot score new text")]))
    assert (worked.headline, gained.headline) == ("Not measured", "Not measured")
    assert worked.lines[0] == "Gain: not available (the reward cannot score new text)."


@pytest.mark.slow
def test_methods_with_few_seeds_get_no_verdict_on_the_first_screen(tmp_path: Path):
    runs = [
        load_run(write_run(tmp_path, variant, seed, dict.fromkeys("abcdefghijkl", 0.5)))
        for variant in ("nll", "seq")
        for seed in (1, 2)
    ]
    worked, gained, cost = cards(compared(runs))
    assert worked.headline == "No verdict"
    assert "seq: fewer than 5 seeds, so no verdict." in worked.lines
    assert gained.headline == "+0.100 to +0.100"
    assert cost.headline == "30.0 s"  # four runs of three steps of 2.5 s
    assert ("seq", "7.5 s, 3 steps") in cost.figures


@pytest.mark.slow
def test_the_page_tells_command_machine_versions_and_the_time_of_each_stage(tmp_path: Path):
    folder = write_run(tmp_path)
    policy = next((tmp_path / "policy").iterdir())
    for place, stage, seconds, inputs in ((policy, "train", 75.0, []), (folder, "evaluate", 5.5, [f"policy/{policy.name}"])):
        with noting(place, About(stage, f"aloll run task.path={ATTACK}", 1, [*inputs, "data/rows-000000000000"])):
            pass
        note = json.loads((place / BUILD).read_text())
        (place / BUILD).write_text(json.dumps(note | {"seconds": seconds, "peak_memory_mib": 1234}))
    builds = builds_of(folder)
    assert builds.seconds == {"train": 75.0, "evaluate": 5.5}
    assert builds.unknown == ["data/rows-000000000000"]
    page = page_about([folder], tmp_path / "page.html")
    assert f"aloll run task.path={ATTACK}" in page.text
    assert f"python {note['versions']['python']}" in page.text
    assert f"{note['machine']['cores']} × {note['machine']['cpu']}" in page.text
    for told in ("1 min 20 s", "1 min 15 s", "5.5 s", "1,234 MiB", f"policy/{policy.name}"):
        assert told in page.text
    (cost,) = [card for card in cards(compared([load_run(folder)])) if card.question == "What did it cost?"]
    assert cost.lines[1] == "The build times of 1 artifacts are not known."


def test_builds_that_name_one_another_end(tmp_path: Path):
    folder = write_run(tmp_path)
    with noting(folder, About("evaluate", "aloll run", 1, [f"metrics/{folder.name}"])):
        pass
    assert [*builds_of(folder).known] == [f"metrics/{folder.name}"]


def test_pages_of_other_runs_have_other_names(tmp_path: Path):
    runs = [load_run(write_run(tmp_path, variant, seed)) for variant in ("nll", "seq") for seed in (1, 2)]
    names = [name_of(compared(chosen)) for chosen in (runs, runs[:2], runs[2:], runs[:1], runs[1:2])]
    names.append(name_of(compared(runs, against="seq")))
    assert len(set(names)) == len(names)
    assert names[3] == f"{runs[0].name}.html"
    assert name_of(compared(runs)) == names[0]


def with_data(root: Path) -> Path:
    """A run whose generated responses, logged rows, rewards and values are still there."""
    folder = write_run(root, curves=False)
    recipe = json.loads((folder / "recipe.json").read_text())
    answers = recipe["inputs"]["policy_answers"]
    answers["kind"] = "generations"
    answers["inputs"]["policy"]["inputs"] = {kind: {"kind": kind} for kind in ("rewards", "values")}
    (folder / "recipe.json").write_text(json.dumps(recipe))
    write_manifest(folder)
    data = answers["inputs"]["examples"]["inputs"]["data"]
    prompts, groups = [*REWARDS], [f"g{i}" for i in range(len(REWARDS))]
    logged = {
        "group": ["g0", "g0", "g1", "g1", "g2"], "response": [" worse", " better", " second", " first", ATTACK],
        "stored": [0.25, 0.75, None, None, None], "position": [0, 1, 1, 0, 0],
    }  # fmt: skip
    write(root, answers, "responses/part-00000.parquet", {"prompt": prompts, "group": groups})
    write(root, data, "test.parquet", logged)
    write(root, {"kind": "rewards"}, "rewards/part-00000.parquet", {"reward": [0.0, 0.5, 1.0]})
    write(root, {"kind": "values"}, "train/part-00000.parquet", {"value": [0.5, 0.25, 0.5]})
    return folder


def write(root: Path, recipe: dict[str, Any], name: str, columns: dict[str, list[Any]]) -> None:
    folder = root / recipe["kind"] / f"x-{fingerprint(recipe)}"
    (folder / name).parent.mkdir(parents=True)
    pq.write_table(pa.table(columns), folder / name)
    write_manifest(folder)


def test_the_best_logged_response_stands_beside_the_generated_ones(tmp_path: Path):
    folder = with_data(tmp_path)
    expected = {"a": (" better", 0.75), "b": (" first", None), "c": (ATTACK, None)}
    assert logged_responses(load_run(folder)) == expected
    assert content(compared([load_run(folder)]))["prompts"] == [["a", "better", 0.75], ["b", "first", None], ["c", ATTACK, None]]
    raw = pa.table({"group": ["g", "g"], "response": ["x", "y"], "stored": [1.0, 1.0], "position": [0, 1]})
    assert best_logged(raw, ["g"]) == [("x", 1.0)]


def test_the_distributions_of_values_and_advantages_are_those_of_the_training_responses(tmp_path: Path):
    folder = with_data(tmp_path)
    signals = training_signals(load_run(folder))
    assert signals is not None
    assert [list(values) for values in signals] == [[0.0, 0.5, 1.0], [0.5, 0.25, 0.5]]
    *_, values, advantages = distributions(compared([load_run(folder)]))
    assert "A = R − V of the 3 training responses; 66.7% are above 0." in advantages.note
    assert "Values V: seq median 0.500, middle half 0.375 to 0.500." in values.svg
    assert training_signals(load_run(write_run(tmp_path / "other", curves=False))) is None


def test_methods_whose_losses_differ_in_scale_have_an_axis_each(tmp_path: Path):
    folders = [write_run(tmp_path, variant) for variant in ("nll", "seq")]
    (file,) = (tmp_path / "policy").glob("seq-*/metrics.jsonl")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps(row | {"loss": row["loss"] * 100}) + "\n" for row in rows))
    plots = curves([(load_run(folder), folder.name, look) for look, folder in enumerate(folders)])
    assert [plot.title for plot in plots if "each method has its own axis" in plot.note] == ["Training loss"]
    assert plots[-1].title == "Training loss"
    assert plots[-1].svg.count("training step") == plots[0].svg.count("training step")


def test_the_curves_of_all_rounds_follow_one_another(tmp_path: Path):
    run = load_run(write_run(tmp_path))
    earlier = Round([{"update": 1, "loss": 20.0}, {"update": 2, "loss": 10.0}], [{"update": 0, "score": 0.1}], {"samples": 7})
    run = replace(run, rounds=[earlier])
    assert run.cost("updates") == 5
    assert run.cost("samples") == 7
    score, *_, loss = (plot for plot in curves([(run, "seq s1", 0)]) if plot.title in ("Validation score", "Training loss"))
    assert "seq s1 round 1 from 20.000 to 10.000; seq s1 round 2 from 9.000 to 3.000" in loss.svg.replace(
        "20.00 ", "20.000 "
    ).replace("10.00;", "10.000;")
    assert "seq s1 round 1 from 0.100 to 0.100; seq s1 round 2 from 0.000 to 0.300" in score.svg
    assert "Each round continues where the one before ended." in score.note


def test_wins_are_counted_and_times_are_short():
    assert str(wins(np.array([0.5, 0.0, 1e-12, -0.1]))) == "wins 1 (25.0%), ties 2 (50.0%), losses 1 (25.0%)"
    assert [duration(seconds) for seconds in (0.04, 59.94, 59.96, 3599.6, 7322)] == [
        "0.0 s", "59.9 s", "1 min 00 s", "1 h 00 min", "2 h 02 min",
    ]  # fmt: skip


def test_a_page_that_cannot_be_written_leaves_the_old_one(tmp_path: Path):
    page = tmp_path / "page.html"
    page.write_text("old")
    run = load_run(write_run(tmp_path))
    del run.metrics["policy"]
    with pytest.raises(KeyError, match="policy"):
        write_page(compared([run]), page)
    assert page.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["page.html"]


@pytest.mark.slow
def test_methods_in_the_table_have_the_colours_of_their_curves(tmp_path: Path):
    runs = [load_run(write_run(tmp_path, variant)) for variant in ("nll", "seq")]
    text = render(compared([replace(run, updates=[]) for run in runs]))
    (tmp_path / "page.html").write_text(text)
    fills = [str(found["fill"]) for tag, found in Page(tmp_path / "page.html").tags if tag == "rect" and "rx" in found]
    table, *legends = [fills[place : place + 2] for place in range(0, len(fills), 2)]
    assert len(legends) >= 2
    assert all(legend == table for legend in legends)
    assert len(set(table)) == 2
    curve = next(
        plot.svg for plot in curves([(run, run.name, look) for look, run in enumerate(runs)]) if plot.title == "Training loss"
    )
    assert all(f'stroke="{colour}"' in curve for colour in table)


@pytest.mark.parametrize(
    ("kind", "name", "columns", "said"),
    [
        ("generations", "responses/part-00000.parquet", {"prompt": [1.5], "group": [[3]]}, "has other columns"),
        (
            "data",
            "test.parquet",
            {"group": ["g0"], "response": [None], "stored": [0.5], "position": [0]},
            "no response in some rows",
        ),
        ("data", "test.parquet", {"group": ["g0"], "response": ["x"], "stored": [np.nan], "position": [0]}, "is no number"),
        ("rewards", "rewards/part-00000.parquet", {"reward": [0.5, np.inf, 0.1]}, "values that are no numbers"),
        ("values", "train/part-00000.parquet", {"value": ["a", "b", "c"]}, "values that are no numbers"),
    ],
)
def test_artifacts_of_another_shape_are_refused_by_name(
    tmp_path: Path, kind: str, name: str, columns: dict[str, list[Any]], said: str
):
    run = load_run(with_data(tmp_path))
    (file,) = tmp_path.glob(f"{kind}/x-*/{name}")
    pq.write_table(pa.table(columns), file)
    with pytest.raises(UserError, match=said) as refused:
        training_signals(run) if kind in ("rewards", "values") else logged_responses(run)
    assert str(tmp_path / kind) in str(refused.value)


def test_prompts_that_the_data_do_not_have_have_no_logged_response(tmp_path: Path):
    run = load_run(with_data(tmp_path))
    (file,) = tmp_path.glob("data/x-*/test.parquet")
    pq.write_table(pa.table({"group": ["g1"], "response": ["x"], "stored": [None], "position": [0]}), file)
    assert logged_responses(run) == {"b": ("x", None)}


def test_rewards_that_differ_by_rounding_alone_are_drawn(tmp_path: Path):
    rewards = {prompt: 1e16 + 2 * place for place, prompt in enumerate("abc")}
    plots = distributions(compared([load_run(write_run(tmp_path, rewards=rewards, curves=False))]))
    assert [plot.title for plot in plots][0] == "Distribution of the reward"
