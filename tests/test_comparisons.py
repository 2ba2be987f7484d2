"""Grouping runs by method, choosing baselines, and estimates over several seeds, worked by hand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluated import write_run
from scipy import stats

from aloll_cli.comparison.differences import Comparison, compared, estimated
from aloll_cli.comparison.folders import require_alike
from aloll_cli.comparison.grouping import methods, over_seeds, settings_apart, typed
from aloll_cli.comparison.runs import Run, load_run
from aloll_cli.errors import UserError
from aloll_cli.metrics.crossed import crossed, holm
from aloll_cli.metrics.length_control import length_controlled
from aloll_cli.reports.comparison_columns import as_plain, caveats, columns, costs
from aloll_cli.reports.page import render

JAPANESE = {"tokenizer": "ja-mecab", "unit": "words", "option": "auto", "letters": {"a to z": 0.0}}


def evaluated(root: Path, variant: str = "seq", seed: int | None = 1, rewards: Any = None, lr: float = 0.001, **more: Any) -> Run:
    options = {"optimizer": {"name": "adamw", "lr": lr}} | more.pop("options", {})
    return load_run(write_run(root, variant, seed, rewards, options=options, **more))


def differences(comparison: Comparison) -> dict[str, float | None]:
    found = {row.method.name: row.estimates.get("difference") for row in comparison.rows}
    return {name: None if figure is None else round(figure["mean"], 6) for name, figure in found.items()}


def partners(comparison: Comparison) -> dict[str, str | None]:
    return {row.method.name: row.against and row.against.name for row in comparison.rows}


def rewards_of(seeds, prompts=40, effect=0.0, noise=0.1, spread=0.0):
    """Rewards by seed of one method on prompts that differ, with an effect of the method and one of each seed."""
    base = np.random.default_rng(0).normal(0.5, 0.2, prompts)
    random = {seed: np.random.default_rng([seed, int(1000 * (1 + effect))]) for seed in seeds}
    return {s: base + effect + random[s].normal(0, spread) + random[s].normal(0, noise, prompts) for s in seeds}


def test_an_estimate_over_seeds_has_an_interval_over_prompts_and_seeds():
    mine, others = rewards_of((1, 2, 3), effect=0.1, spread=0.1), rewards_of((1, 2, 3))
    found, whole = estimated(mine, others), crossed(np.stack([mine[s] - others[s] for s in mine], axis=1))
    assert found["ci95"] == pytest.approx(whole.ci95)
    assert found["by_seed"] == pytest.approx([float((mine[s] - others[s]).mean()) for s in mine])
    assert (found["prompts"], found["seeds"], found["includes_seeds"]) == (40, [3], True)
    over_prompts = estimated({1: mine[1]}, {1: others[1]})
    assert (over_prompts["seeds"], over_prompts["includes_seeds"]) == ([1], False)
    assert over_prompts["ci95"] == pytest.approx(stats.ttest_1samp(mine[1] - others[1], 0).confidence_interval())
    width, alone = (np.diff(estimate["ci95"])[0] for estimate in (found, over_prompts))
    assert width > 3 * alone  # seeds differ by more than prompts tell


def test_seeds_that_one_side_alone_has_count_too():
    mine, others = rewards_of((1, 2, 3, 4, 5), effect=0.1), rewards_of((1, 2, 3))
    found = estimated(mine, others)
    assert found["seeds"] == [5, 3]
    assert found["mean"] == pytest.approx(np.mean([*mine.values()]) - np.mean([*others.values()]))
    assert len(found["by_seed"]) == 3


def test_fewer_than_ten_prompts_have_no_interval_and_no_p_value():
    found = estimated(rewards_of((1, 2), prompts=9, effect=0.1), rewards_of((1, 2), prompts=9))
    assert (found["ci95"], found["p_value"], found["prompts"]) == (None, None, 9)
    assert found["mean"] == pytest.approx(np.mean(found["by_seed"]))
    assert estimated(rewards_of((1, 2), prompts=10), rewards_of((3,), prompts=10))["ci95"] is not None


def by_prompt(values):
    return {f"prompt {i}": float(value) for i, value in enumerate(values)}


def of_methods(root, effects, seeds=(1, 2, 3, 4, 5), prompts=40):
    return [
        evaluated(root, variant, seed, by_prompt(values))
        for variant, effect in effects.items()
        for seed, values in rewards_of(seeds, prompts, effect).items()
    ]


@pytest.mark.slow
def test_verdicts_are_corrected_for_the_number_of_comparisons_and_need_five_seeds(tmp_path):
    effects = {"nll": 0.0, "seq": 0.2, "kl": 0.01, "wbc": -0.2}
    comparison = compared(of_methods(tmp_path, effects))
    found = {row.method.variant: row.estimates["difference"] for row in comparison.rows if row.against}
    assert {name: estimate["verdict"] for name, estimate in found.items()} == {
        "seq": "higher", "kl": "no significant difference", "wbc": "lower",
    }  # fmt: skip
    assert [e["p_holm"] for e in found.values()] == pytest.approx(holm([e["p_value"] for e in found.values()]))
    assert {e["family"] for e in found.values()} == {3}
    said = "\n".join(caveats(comparison))
    assert re.search(r"seq vs nll: higher \(p = \S+, Holm's correction over 3 comparisons\)", said)
    assert "vs nll, p" in {heading for heading, *_ in columns(comparison)}
    few = compared(of_methods(tmp_path / "few", {"nll": 0.0, "seq": 0.2}, seeds=(1, 2, 3, 4)))
    assert few.rows[1].estimates["difference"]["verdict"] is None
    assert few.rows[1].estimates["difference"]["ci95"][0] > 0
    assert "seq vs nll: fewer than 5 seeds, so no verdict." in caveats(few)
    assert "vs nll, p" not in {heading for heading, *_ in columns(few)}


@pytest.mark.slow
def test_the_notes_say_what_varies_and_warn_of_few_prompts(tmp_path):
    said = "\n".join(caveats(compared(of_methods(tmp_path, {"nll": 0.0, "seq": 0.2}, seeds=(1, 2), prompts=12))))
    assert "95% confidence intervals over prompts and training seeds, both random" in said
    assert "the randomness of the data, the reference policy and its samples, and fitted rewards" in said
    assert "warning: 12 prompts are few" in said
    alone = "\n".join(caveats(compared(of_methods(tmp_path / "one", {"nll": 0.0, "seq": 0.2}, seeds=(1,), prompts=9))))
    assert "nll, seq: one seed: the interval covers the prompts alone and excludes seed variance." in alone
    assert "9 prompts are too few for an interval or a verdict; 10 are needed." in alone


def test_one_figure_of_several_runs_is_a_mean_of_means():
    figure = {"mean": 0.2, "ci95": [0.1, 0.3]}
    assert over_seeds([figure]) is figure
    assert over_seeds([figure, {"mean": 0.4, "ci95": [0.0, 1.0]}]) == pytest.approx(0.3)
    assert over_seeds([1.0, 2.0]) == 1.5
    assert over_seeds([figure, None]) is None


def test_runs_that_differ_in_their_seed_alone_are_one_method(tmp_path):
    kinds = [("seq", 2, 0.1), ("nll", 1, 0.01), ("seq", 1, 0.1), ("seq", 1, 0.01), ("nll", 2, 0.01)]
    runs = [evaluated(tmp_path, variant, seed, lr=lr) for variant, seed, lr in kinds]
    found = [(method.name, method.seeds) for method in methods([*runs, runs[0]])]
    assert found == [
        ("seq optimizer.lr=0.01", [1]),
        ("seq optimizer.lr=0.1", [1, 2]),
        ("nll optimizer.lr=0.01", [1, 2]),
    ]


def test_runs_that_no_option_tells_apart_are_told_by_their_fingerprints(tmp_path):
    runs = [evaluated(tmp_path, scorer=scorer, curves=scorer == "one") for scorer in ("one", "two")]
    assert {method.setting for method in methods(runs)} == {f"fingerprint={run.fingerprint}" for run in runs}


def test_an_option_that_older_runs_do_not_have_is_null():
    older, newer, set_now = {"updates": 9}, {"updates": 9, "epochs": None}, {"updates": 9, "epochs": 2}
    assert settings_apart([older, newer, set_now]) == [{"epochs": None}, {"epochs": None}, {"epochs": 2}]


def test_seeds_that_were_trained_with_other_code_are_methods_of_their_own(tmp_path):
    kinds = [(1, ""), (2, ""), (1, "ab12"), (3, "ab12")]
    runs = [evaluated(tmp_path, seed=seed, code=code) for seed, code in kinds]
    found = compared(runs)
    assert [method.seeds for method in found.methods] in ([[1, 2], [1, 3]], [[1, 3], [1, 2]])
    assert all(re.fullmatch("seq recipe=[0-9a-f]{6}", method.name) for method in found.methods)
    (told,) = [line for line in caveats(found) if "the same options as" in line]
    assert told.endswith("but trained with other code, files or data (code).")
    assert [method.name for method in methods(runs[:2])] == ["seq"]


def test_runs_that_were_judged_by_a_reward_of_other_content_are_not_compared(tmp_path):
    first = [evaluated(tmp_path, variant, scorer="one") for variant in ("nll", "seq")]
    other = evaluated(tmp_path, "dpo", scorer="two")
    assert partners(compared([*first, other])) == {"nll": None, "seq": "nll", "dpo": None}
    require_alike(first)
    told = rf"{first[0].name} and {other.name} have the same options of reward, but other code, files or data for it \(content\)"
    with pytest.raises(UserError, match=told):
        require_alike([*first, other])
    slower = evaluated(tmp_path, "seq", lr=0.1, scorer="two")
    with pytest.raises(UserError, match=r"differ in their prompts or rewards"):
        compared([*first, slower], best_of=["optimizer.lr"])


def test_runs_on_other_data_are_methods_of_their_own_and_are_compared_on_the_same_data(tmp_path):
    kinds = [("nll", "old", 0.2), ("nll", "new", 0.5), ("seq", "old", 0.8), ("seq", "new", 0.6)]
    runs = [evaluated(tmp_path, variant, 1, {"a": reward}, data=data) for variant, data, reward in kinds]
    found = compared(runs)
    assert len({method.name for method in found.methods}) == 4
    assert all(method.told["data"] == method.runs[0].made_of["data"] for method in found.methods)
    assert set(differences(found).values()) == {None, 0.6, 0.1}
    faster = [evaluated(tmp_path, variant, 1, {"a": 0.3}, lr=0.2, data=data) for variant, data, _ in kinds]
    assert len(compared([*runs, *faster], best_of=["optimizer.lr"]).methods) == 4


def test_what_cannot_change_a_result_makes_no_baseline_nearer(tmp_path):
    alone, several = {"threads": 1, "processes": 1}, {"threads": 4, "processes": 2}
    slow = evaluated(tmp_path, "nll", 1, {"a": 0.1}, lr=0.01, options=alone)
    fast = evaluated(tmp_path, "nll", 1, {"a": 0.2}, lr=0.1, options=several)
    seq = evaluated(tmp_path, "seq", 1, {"a": 0.9}, lr=0.01, options=several)
    assert differences(compared([fast, slow, seq]))["seq optimizer.lr=0.01"] == pytest.approx(0.8)


def test_best_of_refuses_values_that_weight_the_likelihood_differently(tmp_path):
    likelihood = {"advantage_weighted_log_likelihood": {"policy": -1.0, "reference": -2.0, "gain": {"mean": 1.0, "ci95": None}}}
    runs = [evaluated(tmp_path, "seq", 1, options={"values": {"name": name}}, metrics=likelihood) for name in ("data", "group")]
    with pytest.raises(UserError, match=r"best_of: seq-s1-test-\w+ and seq-s1-test-\w+ differ in their prompts or rewards\."):
        compared(runs, best_of=["values"])


def test_the_setting_is_what_tells_runs_apart_beside_variant_and_seed(tmp_path):
    slow, fast = ({"optimizer": {"name": "adamw", "lr": lr}, "values": {"name": "head", "k": 1}} for lr in (0.001, 0.1))
    other = {"values": {"name": "group", "size": 3}, "processes": 4}
    variants = [("seq", 1, slow), ("seq", 2, fast), ("nll", 1, other)]
    runs = [load_run(write_run(tmp_path, variant, seed, options=options)) for variant, seed, options in variants]
    assert [typed(told) for told in settings_apart([run.options for run in runs])] == [
        "optimizer.lr=0.001 values=head",
        "optimizer.lr=0.1 values=head",
        "optimizer.lr=0.001 values=group",
    ]
    assert settings_apart([runs[0].options]) == [{}]


def test_a_method_of_one_run_has_the_means_of_its_evaluation(tmp_path):
    run = evaluated(tmp_path)
    (row,) = compared([run]).rows
    for name, figure in {"gain": run.metrics["gain"], "reward": run.metrics["policy"]["reward"]}.items():
        assert row.estimates[name]["mean"] == pytest.approx(figure["mean"])
    assert row.against is None


def test_methods_are_compared_with_nll_by_prompt_whatever_the_order(tmp_path):
    runs = [
        evaluated(tmp_path, "seq", 1, {"a": 0.9, "b": 0.5}),
        evaluated(tmp_path, "seq", 2, {"b": 0.5, "a": 0.7}),
        evaluated(tmp_path, "nll", 1, {"b": 0.3, "a": 0.5}),
        evaluated(tmp_path, "nll", 2, {"a": 0.1, "b": 0.3}),
    ]
    row = compared(runs).rows[0]
    # by seed 0.4, 0.2 and 0.6, 0.2; by prompt 0.5 and 0.2
    assert row.estimates["difference"]["by_seed"] == pytest.approx([0.3, 0.4])
    assert row.estimates["difference"]["mean"] == pytest.approx(0.35)
    assert compared(runs).heading == "vs nll"


def test_runs_with_other_rewards_or_prompts_are_not_compared(tmp_path):
    runs = [
        evaluated(tmp_path, "nll", 1, {"a": 0.5}),
        evaluated(tmp_path, "seq", 1, {"a": 0.9}),
        evaluated(tmp_path, "kl", 1, {"a": 0.7}, options={"reward": {"name": "vader", "scale": 2}}),
        evaluated(tmp_path, "wbc", 1, {"elsewhere": 0.7}),
    ]
    found = {row.method.variant: row.estimates.get("difference") for row in compared(runs).rows}
    assert found["seq"]["mean"] == pytest.approx(0.4)
    assert [found[name] for name in ("nll", "kl", "wbc")] == [None, None, None]


def test_of_several_baselines_the_one_with_most_options_in_common_is_taken(tmp_path):
    runs = [evaluated(tmp_path, "nll", 1, {"a": 0.5}), evaluated(tmp_path, "nll", 1, {"a": 0.1}, lr=0.1)]
    comparison = compared([*runs, evaluated(tmp_path, "seq", 1, {"a": 0.9}, lr=0.1)])
    assert partners(comparison)["seq optimizer.lr=0.1"] == "nll optimizer.lr=0.1"
    assert differences(comparison)["seq optimizer.lr=0.1"] == pytest.approx(0.8)


def test_without_nll_methods_are_compared_with_the_first(tmp_path):
    comparison = compared([evaluated(tmp_path, name, 1, {"a": reward}) for name, reward in (("kl", 0.5), ("seq", 0.75))])
    assert comparison.heading == "vs kl"
    assert differences(comparison) == {"kl": None, "seq": 0.25}


def test_methods_are_compared_with_the_variant_or_the_run_that_is_named(tmp_path):
    runs = [evaluated(tmp_path, name, 1, {"a": reward}) for name, reward in (("nll", 0.5), ("kl", 0.6), ("seq", 0.75))]
    assert differences(compared(runs, "kl")) == {"nll": -0.1, "kl": None, "seq": 0.15}
    assert differences(compared(runs, runs[2])) == {"nll": -0.25, "kl": -0.15, "seq": None}
    faster = [*runs, evaluated(tmp_path, "seq", 1, {"a": 0.9}, lr=0.1)]
    assert compared(faster, runs[2]).heading == "vs seq optimizer.lr=0.001"
    with pytest.raises(UserError, match=r"against=kll: no run has this variant.*\nVariants of the runs: nll, kl, seq\."):
        compared(runs, "kll")


def test_the_best_value_of_an_option_is_chosen_on_validation_data_alone(tmp_path):
    runs = [
        evaluated(tmp_path, "seq", 1, {"a": 0.9}, lr=0.1, scores=(0.0, 0.5)),
        evaluated(tmp_path, "seq", 2, {"a": 0.9}, lr=0.1, scores=(0.0, 0.1, 0.3)),
        evaluated(tmp_path, "seq", 1, {"a": 0.5}, lr=0.2, scores=(0.9, 0.4)),
        evaluated(tmp_path, "seq", 2, {"a": 0.5}, lr=0.2, scores=(0.0, 0.6, 0.2)),
        evaluated(tmp_path, "nll", 1, {"a": 0.4}, lr=0.2, scores=(0.0, 0.1)),
    ]
    comparison = compared(runs, best_of=["optimizer.lr"])
    # (0.5 + 0.3) / 2 = 0.4 against (0.4 + 0.6) / 2 = 0.5: the one with less reward on the test split
    seq, nll = comparison.methods
    assert (seq.name, seq.validation, nll.validation) == ("seq optimizer.lr=0.2", pytest.approx(0.5), 0.1)
    assert [(rival.name, rival.validation) for rival in seq.rivals] == [("seq optimizer.lr=0.1", pytest.approx(0.4))]
    assert "seq: optimizer.lr=0.2 has the best validation reward, 0.500 (optimizer.lr=0.1: 0.400)." in caveats(comparison)
    assert ("validation score", [pytest.approx(0.5), 0.1], "") in columns(comparison)
    assert as_plain(comparison)["methods"][0]["rivals"][0]["options"] == {"optimizer.lr": 0.1}


def test_a_value_is_chosen_by_the_seeds_that_all_values_have(tmp_path):
    kinds = [(0.1, 1, 0.5), (0.2, 1, 0.4), (0.1, 2, 0.1), (0.3, 1, 0.3)]  # 0.1 has the better first seed and the worse mean
    runs = [evaluated(tmp_path, "seq", seed, lr=lr, scores=(0.0, score)) for lr, seed, score in kinds]
    comparison = compared(runs, best_of=["optimizer.lr"])
    (seq,) = comparison.methods
    assert (seq.setting, seq.seeds, seq.validation) == ("optimizer.lr=0.1", [1, 2], 0.5)
    others = "(optimizer.lr=0.2: 0.400; optimizer.lr=0.3: 0.300)"
    assert f"seq: optimizer.lr=0.1 has the best validation reward over seed 1, 0.500 {others}." in caveats(comparison)
    apart = [runs[0], evaluated(tmp_path, "seq", 2, lr=0.2, scores=(0.0, 0.4))]
    with pytest.raises(UserError, match=r"cannot be compared: optimizer\.lr=0\.1 has seed 1; optimizer\.lr=0\.2 has seed 2\."):
        compared(apart, best_of=["optimizer.lr"])


def test_two_options_may_be_chosen_at_once_and_others_keep_their_rows(tmp_path):
    kinds = [(0.1, 1, 8, 0.3), (0.1, 2, 8, 0.5), (0.2, 1, 8, 0.4), (0.2, 1, 9, 0.1)]
    runs = [
        evaluated(tmp_path, lr=lr, options={"values": {"name": "head", "k": k}, "batch_size": size}, scores=(0.0, score))
        for lr, k, size, score in kinds
    ]
    found = compared(runs, best_of=["optimizer.lr", "values.k"]).methods
    assert [(method.told["batch_size"], method.told["values.k"], len(method.rivals)) for method in found] == [
        (8, 2, 2),
        (9, 1, 0),
    ]


def test_a_run_that_keeps_its_last_policy_has_the_last_score(tmp_path):
    run = evaluated(tmp_path, scores=(0.0, 0.6, 0.2))
    assert run.validation == 0.6
    assert Run(**{name: getattr(run, name) for name in run.__dataclass_fields__} | {"keeps_best": False}).validation == 0.2
    assert evaluated(tmp_path, "kl", curves=False).validation is None


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("optimizer.lrr", r'best_of: there is no option "optimizer\.lrr" under "optimizer"\.\nDid you mean optimizer\.lr\?'),
        (
            "reward",
            r"best_of=reward: all runs have the same value .*\.\nBesides variant and seed they differ in: optimizer\.lr",
        ),
        (
            "seed",
            r"best_of=seed: variants and seeds are compared, not selected\.\nName an option, for example best_of=optimizer\.lr",
        ),
        ("variant", r"best_of=variant: variants and seeds are compared"),
        ("optimizer.lr", r"best_of: kl-s1-test-\w+ has no validation scores: .*\nTrain it again with aloll train"),
    ],
)
def test_an_option_that_cannot_be_chosen_says_why(tmp_path, option, message):
    runs = [evaluated(tmp_path, "kl", 1, lr=lr, curves=False) for lr in (0.1, 0.2)]
    with pytest.raises(UserError, match=message):
        compared(runs, best_of=[option])


def test_costs_are_sums_over_updates_and_means_over_seeds(tmp_path):
    runs = [evaluated(tmp_path, "seq", seed) for seed in (1, 2)]
    runs[1].updates[0]["samples"] = 24
    found = {heading: figures for heading, figures, _ in costs(compared(runs))}
    assert found == {"steps": [3], "tokens trained on": [1500], "training seconds": [7.5], "generated samples": [12]}
    assert [heading for heading, *_ in costs(compared(runs[:1]))] == ["steps", "tokens trained on", "training seconds"]
    assert costs(compared([evaluated(tmp_path, "kl", curves=False)])) == []


def test_the_notes_under_a_table_say_how_seeds_were_paired(tmp_path):
    kinds = [("nll", 1), ("nll", 2), ("seq", 2), ("seq", 3), ("kl", 4), ("wbc", 1), ("wbc", 2)]
    said = caveats(compared([evaluated(tmp_path, variant, seed) for variant, seed in kinds]))
    other = "so the means over all seeds of each are compared."
    assert f"seq vs nll: other seeds (2, 3; 1, 2), {other}" in said
    assert f"kl vs nll: other seeds (4; 1, 2), {other}" in said
    assert not any("wbc vs nll: other" in line for line in said)


def test_the_held_out_reward_is_estimated_and_drawn_like_the_reward(tmp_path):
    runs = [evaluated(tmp_path, "nll", 1, {"a": 0.5}), evaluated(tmp_path, "seq", 1, {"a": 0.9})]
    for run, reward in zip(runs, (0.2, 0.6), strict=True):
        for row in run.responses:
            row["policy"]["test_reward"], row["reference"]["test_reward"] = reward, 0.1
    comparison = compared(runs)
    found = comparison.rows[1].estimates
    assert found["held_out_gain"]["mean"] == pytest.approx(0.5)
    assert found["held_out_difference"]["mean"] == pytest.approx(0.4)
    assert {"held-out reward gain", "held-out vs nll"} <= {heading for heading, *_ in columns(comparison)}
    assert "seq reward gain +0.500, held-out reward gain +0.500." in render(comparison)


@pytest.mark.slow
def test_gains_at_equal_length_have_intervals_over_prompts_and_seeds(tmp_path):
    random, runs = np.random.default_rng(1), []
    for variant, effect in (("nll", 0.0), ("seq", 0.2)):
        for seed in (1, 2, 3):
            words = random.integers(1, 9, 40)
            rewards = {f"p{i}": float(0.4 + effect + 0.05 * (n - 2) + random.normal(0, 0.02)) for i, n in enumerate(words)}
            run = evaluated(tmp_path, variant, seed, rewards)
            for row, n in zip(run.responses, words, strict=True):
                row["policy"]["response"] = "so " * n  # the reference's responses have two words
            runs.append(run)
    nll, seq = (row.estimates for row in compared(runs).rows)
    assert "length_controlled_difference" not in nll
    assert seq["length_controlled_gain"]["mean"] == pytest.approx(0.2, abs=0.01)
    assert seq["length_controlled_difference"]["mean"] == pytest.approx(0.2, abs=0.02)
    assert seq["length_controlled_gain"]["includes_seeds"]
    assert seq["length_controlled_gain"]["by_seed"] == pytest.approx([
        length_controlled(*(run.by_prompt(run.prompts, "reward") - 0.4, run_words(run) - 2.0), 10)["mean"]
        for run in runs if run.variant == "seq"
    ])  # fmt: skip
    headings = [heading for heading, *_ in columns(compared(runs))]
    assert {"gain at equal length", "vs nll, equal length"} <= set(headings)
    assert as_plain(compared(runs))["methods"][1]["length_controlled_difference"] == seq["length_controlled_difference"]


def test_without_its_tokenizer_and_with_lengths_that_all_differ_alike_there_is_no_gain_at_equal_length(tmp_path):
    rewards = {f"p{i}": i / 40 for i in range(40)}
    japanese = evaluated(tmp_path, "nll", 1, rewards, metrics={"words": JAPANESE})
    longer = evaluated(tmp_path, "seq", 1, rewards, response="all of three words")
    for run in (japanese, longer):
        assert run.gains_at_equal_length(run.prompts, "reward") is None
        assert "length_controlled_gain" not in compared([run]).rows[0].estimates


def run_words(run: Run) -> Any:
    return np.array([len(row["policy"]["response"].split()) for row in run.responses])
