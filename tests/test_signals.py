"""Rewards that say nothing, or too little, are told before anything is trained; so is what the model cannot tell apart."""

import json
import math
import re
import unicodedata
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet
from tiny import composed, job, some_slow, store, write_rows

from aloll_cli.artifacts.as_seen import form_hashes, shared_prompts, shared_told
from aloll_cli.artifacts.pipeline import Pipeline
from aloll_cli.artifacts.rewards import log_summary
from aloll_cli.artifacts.values import checked, load_values
from aloll_cli.errors import UserError
from aloll_cli.rewards.column import Column, Transform
from aloll_cli.rewards.scoring import check_scores
from aloll_cli.rewards.variation import saturation, varies, weakness
from aloll_cli.stages import inspect
from aloll_cli.visible import fixed

SPLITS = ("train", "validation", "test")
TINY = (
    "task=local", "model.vocab_size=300", "model.hidden_size=16", "model.layers=1", "model.heads=2",
    "model.intermediate_size=16", "reference.updates=2", "task.max_prompt_tokens=16", "task.max_response_tokens=8",
)  # fmt: skip


def rows(folder, rewards, prompt="{split} town {i} is called", responses=("Elm {i}.",)):
    """A folder with as many prompts per split as rewards, each with some responses, all of which have that reward."""
    for split in SPLITS:
        found = [
            {"prompt": prompt.format(split=split, i=i), "response": text.format(i=i), "reward": reward}
            for i, reward in enumerate(rewards)
            for text in responses
        ]
        write_rows(folder / f"{split}.jsonl", found)
    return f"task.path={folder}"


@pytest.mark.parametrize(
    ("rewards", "varied"),
    [
        ([0.5] * 3, False),
        ([0.1 + 0.2, 0.3], False),
        ([0.0, 0.0], False),
        ([1e6, 1e6 + 0.1], False),
        ([0.3, 0.30001], True),
        ([0.0, 1e-9], True),
        ([-5.0, 5.0], True),
        ([2.0], False),
    ],
)
def test_rewards_vary_where_they_differ_by_more_than_rounding(rewards, varied):
    assert varies(np.array(rewards)) is varied


@pytest.mark.parametrize(
    ("rewards", "bounds", "why"),
    [
        ([0.25] * 4, (0, 1), r"^do not vary beyond rounding: they are all 0\.25, so they say of no response that it is better$"),
        ([0.0] * 97 + [1.0] * 3, (0, 1), r"^hardly vary: 97\.0% of them are 0$"),
        (
            [1, 2, 3, 4, 5],
            (0, 1e6),
            r"^span 0\.00% of the declared range \[0, 1e\+06\]: they are between 1 and 5 \(.*1\.2/3/4\.8\)$",
        ),
        # two values at a distance of d have a standard deviation of d / 2
        ([0.0, 1e-7] * 20, (0, 1), r"^differ by very little: their standard deviation is 5e-08, .*optimizer\.eps.*scale them up"),
        ([0.0, 1.99e-4] * 20, (-math.inf, math.inf), r"^differ by very little"),
        ([0.0, 2.01e-4] * 20, (-math.inf, math.inf), None),
        ([0.0, 1.0] * 20, (0, 1), None),
        ([1, 2, 3, 4, 5], (-math.inf, math.inf), None),
        (
            [*np.linspace(0, 1, 99), 1e4],
            (0, math.inf),
            r"^are decided by a few outliers: 90% of them span 0\.909, and all",
        ),
        ([*np.linspace(0, 1, 99), 100], (0, math.inf), None),
    ],
)
def test_what_makes_a_signal_weak_is_told_with_its_figures(rewards, bounds, why):
    found = weakness(np.array(rewards, dtype=np.float64), bounds)
    assert found is None if why is None else re.search(why, found)


@pytest.mark.parametrize("table", ["train", "generations"])
@pytest.mark.parametrize(("rewards", "is_warned"), [([1.0] * 3, True), ([1.0, 1.0, 0.5], False)])
def test_rewards_that_do_not_vary_are_warned_of_also_if_generated(tmp_path, table, rewards, is_warned):
    (tmp_path / "rewards").mkdir()
    parquet.write_table(pyarrow.table({"reward": rewards}), tmp_path / "rewards" / "part-00000.parquet")
    warnings = []
    making = replace(job(tmp_path), log=SimpleNamespace(say=str, warn=warnings.append))
    log_summary(making, Pipeline(composed()).scored_by.rewards(None, table))
    told = rf"the vader rewards of the 3 {'train' if table == 'train' else 'generated'} responses do not vary .*: they are all 1"
    assert [re.match(told, said) is not None for said in warnings] == [True] * is_warned


@pytest.mark.parametrize(
    ("value", "shown"), [(0.0, "+0.0000"), (0.5, "+0.5000"), (0.00123, "+0.0012"), (9.123e-8, "+9.12e-08"), (-5e-4, "-0.0005")]
)
def test_small_rewards_are_shown_with_digits_that_say_something(value, shown):
    assert fixed(value, 4, "+") == shown


def test_a_sigmoid_saturates_where_it_comes_within_a_thousandth_of_its_ends():
    # σ(z) > 0.999 from z = ln 999 = 6.907 on
    assert saturation(np.array([-6.91, 6.90, 0.0, 40.0])) == 0.5


def column(**options):
    return Column(**({"transform": Transform.none, "lo": 0.0, "hi": 1.0} | options))


def test_stored_rewards_outside_the_unit_interval_ask_for_a_scale_and_propose_two():
    stored = {"train": np.array([0.0, 0.5, 1.0]), "validation": np.array([0.0]), "test": np.array([2.0, 5.0])}
    with pytest.raises(UserError) as error:
        column().check_stored(stored)
    what, ratings, logits = str(error.value).split("\n")
    assert "as they are stored, in [0, 1], but 2 of 6 lie outside" in what
    assert "train 0.05/0.5/0.95, validation 0/0/0, test 2.15/3.5/4.85" in what
    assert "reward.lo=0 reward.hi=5 " in ratings
    # sigmoids of 0, 0, 0.5, 1, 2, 5: 0.5, 0.5, 0.6225, 0.7311, 0.8808, 0.9933
    assert logits == "If they are logits: reward.transform=sigmoid; their 5th/50th/95th percentile becomes 0.5/0.6768/0.9652."
    assert column(hi=5.0).check_stored(stored) is None
    assert column().check_stored({"train": np.array([0.0, 1.0])}) is None


def test_a_sigmoid_of_percentages_is_warned_of_and_one_of_logits_is_not():
    percentages, logits = np.arange(20.0, 100.0), np.linspace(-3, 3, 80)
    sigmoid = column(transform=Transform.sigmoid)
    said = sigmoid.check_stored({"train": percentages})
    assert "the sigmoid of 100.0% of the stored rewards is within 0.001 of 0 or 1" in said
    assert "23.95/59.5/95.05 becomes 1/1/1" in said
    assert sigmoid.check_stored({"train": logits}) is None
    fitted = composed("reward=fitted").reward
    assert fitted.check_stored({"train": percentages}).endswith("reward.target=ranks takes scores of any scale")
    assert fitted.check_stored({"train": logits}) is None
    assert composed("reward=fitted", "reward.target=ranks").reward.check_stored({"train": percentages}) is None


def test_rewards_whose_squares_overflow_are_refused_by_name():
    unbounded = column(lo=-math.inf, hi=math.inf)
    check_scores(unbounded, np.array([-1e12, 1e12]), str)
    with pytest.raises(UserError, match=r"returned -5e\+30 for example 1; the squares of rewards beyond ±1e\+12 overflow"):
        check_scores(unbounded, np.array([0.0, -5e30]), str)


@pytest.mark.slow
def test_rewards_that_do_not_vary_are_refused_before_the_reference_is_trained(tmp_path):
    given = rows(tmp_path / "rows", [0.5, 0.5 + 1e-9] * 3)
    told = r"rewards of the 6 train responses do not vary beyond rounding \(all 0\.5 to within 1e-09\)(?s:.*)variant=nll$"
    for options in (("values=data",), ("variant=wbc", "values=constant"), ("values=constant",), ("variant=dro", "values=data")):
        with pytest.raises(UserError, match=told):
            store(tmp_path / "out").ensure(Pipeline(composed(given, *TINY, "reward=column", *options)).metrics)
    assert list((tmp_path / "out").glob("rewards/column-train*"))
    assert not list((tmp_path / "out").glob("reference/*"))


def test_a_soft_value_of_another_temperature_than_dros_is_refused_before_samples_are_drawn(tmp_path):
    given = rows(tmp_path / "rows", [0.0, 0.4] * 3)  # standard deviation 0.2
    line = Pipeline(composed(given, *TINY, "reward=vader", "variant=dro", "variant.tau=2", "values=soft"))
    told = r"V\(x\) of variant=dro with these options and rewards has the temperature 0\.4\."
    with pytest.raises(UserError, match=told) as refused:
        line.logged_data._check_temperature(np.array([0.0, 0.4] * 3))
    assert refused.value.args[1].startswith("values.beta=0.4, or values=joint")


@pytest.mark.parametrize(("options", "used"), some_slow([((), 2), (("sampling=all",), 6), (("clamp=false", "sampling=all"), 6)]))
def test_an_epoch_is_over_all_responses_that_can_be_drawn(tmp_path, options, used):
    given = rows(tmp_path / "rows", [0.0, 0.1, 0.2, 0.3, 0.8, 0.9])
    line = Pipeline(composed(given, *TINY, "reward=column", "values=constant", "values.value=0.5", *options))
    opened = store(tmp_path / "out")
    opened.ensure(line.examples)
    opened.ensure(line.values)
    assert line.logged_data.load(job(tmp_path / "out")).kept_units == used


@pytest.mark.slow
def test_validation_responses_have_the_value_of_the_others_to_their_prompt(tmp_path):
    for split in SPLITS:
        found = [{"prompt": f"{split} town {i}", "response": f"Elm {k}", "reward": (i + k) / 4} for i in range(2) for k in (0, 2)]
        write_rows(tmp_path / "rows" / f"{split}.jsonl", found)
    line = Pipeline(composed(f"task.path={tmp_path / 'rows'}", *TINY, "reward=column", "values=group"))
    opened = store(tmp_path / "out")
    folder = opened.ensure(line.values)
    for split in SPLITS:
        assert load_values(folder, split).tolist() == [0.5, 0.0, 0.75, 0.25]


def test_equal_weights_are_allowed_where_the_user_sets_the_baseline_and_warned_of(tmp_path):
    given = rows(tmp_path / "rows", [0.5] * 6)
    line = Pipeline(composed(given, *TINY, "reward=column", "values=constant", "values.value=0.2"))
    weights = line.weights(line.settings.variant.signal, "train")
    assert "every response gets the same weight, as with variant=nll" in weights.check_rewards(np.full(6, 0.5))
    assert weights.check_rewards(np.linspace(0, 1, 6)) is None


@pytest.mark.slow
def test_pairs_of_one_text_are_refused_before_the_reference_is_trained(tmp_path):
    for split in SPLITS:
        long = [f"word {i} " * 9 for i in range(3)]
        found = [
            {"prompt": f"{split} {i}", "response": [f"{long[i]} good", f"{long[i]} bad"], "reward": [1, 0]} for i in range(3)
        ]
        write_rows(tmp_path / "rows" / f"{split}.jsonl", found)
    options = (f"task.path={tmp_path / 'rows'}", *TINY, "reward=column", "values=constant", "variant=dpo")
    with pytest.raises(UserError) as error:
        store(tmp_path / "out").ensure(Pipeline(composed(*options)).policy)
    assert str(error.value) == (
        "no prompt has two responses that can be compared: pairs of responses with different rewards: 3, less 3 whose two "
        "responses the model sees as the same.\n"
        "Raise task.max_response_tokens=8, or choose a method that needs no comparisons: variant=seq"
    )
    assert not list((tmp_path / "out").glob("reference/*"))


@pytest.mark.slow
def test_inspect_counts_what_the_model_cannot_tell_apart_and_ratings_that_conflict(tmp_path, capsys):
    # three prompts that differ in their first words only, which are cut; one response with two ratings, one twice with the same
    for split in SPLITS:
        found = [
            {"prompt": f"{split} {i} " + f"the town number {i} " * 6, "response": f"Elm {i}.", "reward": 0} for i in range(3)
        ]
        found += [found[0] | {"reward": 1}, found[1]]
        write_rows(tmp_path / "rows" / f"{split}.jsonl", found)
    options = (f"task.path={tmp_path / 'rows'}", *TINY, "reward=column")
    inspect.run(composed(*options, "format=json"), store(tmp_path / "out"))
    out, err = capsys.readouterr()
    found = json.loads(out)
    shared = {"validation": {"train": 3}, "test": {"train": 3, "validation": 3}}
    assert found["shared_prompts_as_seen"] == shared
    assert found["shared_prompts_but_for_form"] == {"validation": {"train": 0}, "test": {"train": 0, "validation": 0}}
    assert found["pairs"]["train"] == {"different": 0, "same": 1}
    assert found["splits"]["test"]["conflicting_ratings"] == 1
    assert found["splits"]["test"]["duplicates"] == 2
    told = "3 of validation in train, 3 of test in train, 3 of test in validation"
    expected = rf"warning: prompts that the model sees alike in two splits.* task\.max_prompt_tokens=16,.*: {told}$"
    assert re.search(expected, err, re.M)
    inspect.run(composed(*options), store(tmp_path / "out"))
    page = capsys.readouterr().out
    assert f"as the model sees them, after the cut: {told}" in page
    assert "conflicting ratings" in page
    assert "the same as the model sees them: no pairs" in page


def test_prompts_that_are_not_cut_are_shared_by_no_two_splits(tmp_path):
    line = Pipeline(composed(rows(tmp_path / "rows", [0, 1]), *TINY, "reward=column", "task.max_prompt_tokens=60"))
    shared = shared_prompts(store(tmp_path / "out").ensure(line.examples))
    assert shared == {"validation": {"train": 0}, "test": {"train": 0, "validation": 0}}
    assert shared_told(shared) == ""


def test_prompts_that_differ_in_white_space_or_unicode_form_between_splits_are_counted_and_warned_of(tmp_path, capsys):
    cafe, office = "At the café in the town", "At the office in the town"
    other = {"validation": unicodedata.normalize("NFD", cafe), "test": office.replace("ffi", "ﬃ")}  # a ligature
    for split, forms in (("train", ["{}"]), ("validation", ["{}\n", " {}"]), ("test", ["{}  {}", "{}\u00a0{}"])):
        texts = [form.format(f"Stop {i}", f"of {i}") for i, form in enumerate(forms)] + [other.get(split, cafe)]
        texts += {"train": ["Stop 1", "Stop 0 of 0", "Stop 1 of 1", office], "test": ["Stop 0of 0"]}.get(split, [])
        pairs = [{"prompt": text, "response": ["Elm.", "Oak."], "reward": [0, 1]} for text in texts]
        write_rows(tmp_path / "rows" / f"{split}.jsonl", pairs)
    options = (f"task.path={tmp_path / 'rows'}", *TINY, "reward=column", "task.max_prompt_tokens=60")
    made = store(tmp_path / "out").ensure(Pipeline(composed(*options)).examples)
    shared = {"validation": {"train": 3}, "test": {"train": 3, "validation": 0}}
    assert shared_prompts(made, form_hashes) == shared
    told = "3 of validation in train, 3 of test in train"
    assert f"two splits share but for white space and Unicode form: {told};" in capsys.readouterr().err
    inspect.run(composed(*options), store(tmp_path / "out"))
    assert f"but for white space and Unicode form: {told}\n" in capsys.readouterr().out


def test_nan_is_no_positive_advantage(tmp_path, monkeypatch):
    line = Pipeline(composed(rows(tmp_path / "rows", [0, 1]), *TINY, "reward=column", "values=constant", "values.value=0.5"))
    opened = store(tmp_path / "out")
    opened.ensure(line.rewards())
    weights = line.weights(line.settings.variant.signal, "train")
    making = job(tmp_path / "out")
    monkeypatch.setattr("aloll_cli.artifacts.values.load_values", lambda folder, split: np.array([np.nan, 0.5]))
    with pytest.raises(UserError, match="1 train advantages are not finite"):
        weights.load(making)
    with pytest.raises(UserError, match="values that are not finite"):
        checked(np.array([np.nan]), 1, "data")
