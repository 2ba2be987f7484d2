"""Values predicted from the whole prompt by ridge regression, and their blend with samples."""

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix
from tiny import composed, store, write_rows

from aloll_cli.artifacts.pipeline import Pipeline
from aloll_cli.artifacts.values import load_values
from aloll_cli.errors import UserError
from aloll_cli.models.value_head import pooled
from aloll_cli.values.base import Evidence, LoggedRewards
from aloll_cli.values.blend import Blend, Shrinkage, shrinkage, variance_within
from aloll_cli.values.regression import PENALTIES, Features, Prompts, cross_fit
from aloll_cli.values.ridge import Ridge

OPTIONS = {"features": Features.text, "max_features": 1000, "folds": 3, "seed": 1}
SAMPLED = {"samples": 2, "top_p": 1.0, "temperature": 1.0}
WORDS = ("parcel", "invoice", "refund", "order")
UNBOUNDED = (-np.inf, np.inf)


def prompts(count=60):
    """Texts in which one of four words says what to expect, behind others that do not."""
    return [f"Ticket {i} about my {WORDS[i % 4]}, which is late" for i in range(count)]


def expected(count=60):
    """(N,) the expected reward of each of these prompts."""
    return np.array([0.2, 0.4, 0.6, 0.8])[np.arange(count) % 4]


def evidence(texts, rewards, groups=None, sampled=None, states=None, bounds=(0.0, 1.0), said=None):
    said = [] if said is None else said
    return Evidence(
        range=bounds,
        train=LoggedRewards(np.array(rewards, dtype=np.float64), np.arange(len(rewards)) if groups is None else groups),
        sample_rewards=sampled,
        states=lambda split, chosen: [states[i] for i in chosen],
        texts=lambda split, chosen: [texts[i] for i in chosen],
        say=said.append,
        warn=said.append,
    )


def everyone(count):
    return LoggedRewards(None, np.arange(count)), slice(0, count)


def test_predictions_are_those_of_the_normal_equations_of_the_other_folds():
    random = np.random.default_rng(0)
    features, targets = random.normal(size=(30, 4)), random.normal(size=30)
    counts, folds = random.integers(1, 4, 30).astype(np.float64), np.arange(30) % 3
    targets += features @ [1.0, -2.0, 0.0, 0.5]
    fit = cross_fit(csr_matrix(features), targets, counts, folds, UNBOUNDED)
    assert fit.penalty in PENALTIES

    def by_hand(rows, of):
        weights = counts[rows] / counts.mean()
        centre, mean = np.average(features[rows], axis=0, weights=weights), np.average(targets[rows], weights=weights)
        x, y = features[rows] - centre, targets[rows] - mean
        slope = np.linalg.solve(x.T @ (weights[:, None] * x) + fit.penalty * np.eye(4), x.T @ (weights * y))
        return (of - centre) @ slope + mean

    for fold in range(3):
        np.testing.assert_allclose(fit.held_out[folds == fold], by_hand(folds != fold, features[folds == fold]), atol=1e-4)
    new = random.normal(size=(5, 4))
    np.testing.assert_allclose(fit.predict(csr_matrix(new)), by_hand(np.arange(30), new), atol=1e-4)
    assert fit.error == pytest.approx(np.average((fit.held_out - targets) ** 2, weights=counts))


def test_predictions_stay_within_the_range_of_the_reward():
    features = csr_matrix(np.arange(-10.0, 10.0)[:, None])
    fit = cross_fit(features, np.r_[np.zeros(10), np.ones(10)], np.ones(20), np.arange(20) % 4, (0.0, 1.0))
    assert fit.predict(csr_matrix([[-500.0], [500.0]])).tolist() == [0.0, 1.0]


def test_a_ridge_learns_from_words_anywhere_in_the_prompt_and_says_how_well():
    said, texts = [], prompts()
    noisy = np.clip(expected() + np.random.default_rng(1).normal(0, 0.1, 60), 0, 1)
    estimate = Ridge(**OPTIONS).estimate(evidence(texts, noisy, said=said))
    values = estimate.of("train", *everyone(60))
    assert np.mean((values - expected()) ** 2) < 0.2 * expected().var()
    assert "(TF-IDF of words of whole prompts): held-out MSE 0.0" in said[0]
    elsewhere = estimate.of("validation", LoggedRewards(None, np.array([3, 0, 3])), slice(0, 3))
    np.testing.assert_allclose(elsewhere, [0.8, 0.2, 0.8], atol=0.15)
    assert elsewhere[0] == elsewhere[2]


def test_the_ridge_that_speaks_for_a_prompt_never_saw_its_reward():
    texts, rewards = prompts(), expected() + np.linspace(0, 0.01, 60)
    method, altered = Ridge(**OPTIONS), rewards.copy()
    altered[7] = 0.3
    before, after = (method.estimate(evidence(texts, r)).of("train", *everyone(60)) for r in (rewards, altered))
    folds = np.random.default_rng(1).permutation(60) % 3
    assert np.array_equal(before[folds == folds[7]], after[folds == folds[7]])
    assert (before != after).sum() >= 30


def test_several_responses_to_a_prompt_are_one_target_of_more_weight():
    texts, rewards = prompts(12), expected(12)
    twice, thrice = np.repeat(np.arange(12), 2), np.repeat(np.arange(12), 3)
    found = [
        Ridge(**OPTIONS)
        .estimate(evidence(texts, np.repeat(rewards, n), groups))
        .of("train", LoggedRewards(None, groups), slice(0, 2))
        for n, groups in ((2, twice), (3, thrice))
    ]
    np.testing.assert_allclose(*found, atol=1e-6)  # every weight is relative to the mean one
    assert found[0][0] == found[0][1]


def test_a_ridge_that_predicts_no_better_than_the_mean_gives_the_mean_of_the_other_folds():
    said, noise = [], np.random.default_rng(3).random(60)
    values = (
        Ridge(**OPTIONS).estimate(evidence([f"Same words, {i}" for i in range(60)], noise, said=said)).of("train", *everyone(60))
    )
    assert said[1] == "the ridge predicts rewards no better than their mean does, so V(x) is their mean"
    folds = np.random.default_rng(1).permutation(60) % 3
    for fold in range(3):
        np.testing.assert_allclose(values[folds == fold], noise[folds != fold].mean())


def test_a_script_without_spaces_is_read_by_characters():
    said, kinds = [], ("包裹", "发票", "退款", "订单")
    texts = [f"我的{kinds[i % 4]}在哪里？第{i}号" for i in range(60)]
    values = Ridge(**OPTIONS).estimate(evidence(texts, expected(), said=said)).of("train", *everyone(60))
    assert "TF-IDF of characters of whole prompts" in said[0]
    assert np.mean((values - expected()) ** 2) < 0.3 * expected().var()


@pytest.mark.parametrize("texts", [["alpha", "beta", "gamma"], ["?", "!", "?!"], ["x"] * 3, ["", "", "a"]])
def test_prompts_with_hardly_a_word_have_features(texts):
    found = Prompts(Ridge(**OPTIONS), evidence(texts, [0, 1, 0]), np.arange(3)).features("train", np.arange(3))
    assert found.shape[0] == 3
    assert np.isfinite(found.toarray()).all()


def test_pooled_states_are_the_mean_and_the_last():
    state = torch.tensor([[1.0, 2.0], [3.0, 6.0], [5.0, 1.0]])
    assert pooled(state).tolist() == [[3.0, 3.0], [5.0, 1.0]]


def test_a_ridge_on_states_reads_no_text_and_both_read_both():
    states = [torch.tensor([[w, 0.0], [0.5, 1.0]]) for w in expected()]
    on_states = Ridge(**OPTIONS | {"features": Features.states})
    assert (on_states.reads_states, Ridge(**OPTIONS).reads_states) == (True, False)
    given = evidence(None, expected(), states=states)
    values = on_states.estimate(given).of("train", *everyone(60))
    assert np.corrcoef(values, expected())[0, 1] > 0.99
    both = Prompts(Ridge(**OPTIONS | {"features": Features.both}), evidence(prompts(), expected(), states=states), np.arange(60))
    found = both.features("train", np.arange(60)).toarray()
    text = Prompts(Ridge(**OPTIONS), evidence(prompts(), expected()), np.arange(60)).features("train", np.arange(60)).toarray()
    assert np.array_equal(found[:, :-4], text)
    np.testing.assert_allclose((found[:, -4:] ** 2).sum(axis=1).mean(), 0.25)  # 1 of 4 coordinates varies


def test_the_weight_of_the_samples_worked_by_hand():
    # (m − f)² = 0.09, 0.01, 0.05: mean 0.05; τ² = 0.05 − 0.02 = 0.03, λ = 0.03 / 0.05
    found = shrinkage(np.array([0.5, 0.2, 0.4]), np.array([0.2, 0.1, 0.4 - 0.05**0.5]), 0.02)
    assert found.residual == pytest.approx(0.03)
    assert found.weight == pytest.approx(0.6)
    assert found.error == pytest.approx(0.012)
    assert shrinkage(np.array([0.5, 0.5]), np.array([0.5, 0.4]), 0.2).weight == 0  # all that is left is noise
    assert Shrinkage(residual=0.0, noise=0.0).weight == 0
    assert Shrinkage(residual=0.1, noise=0.0).weight == 1


def test_the_variance_within_prompts_worked_by_hand():
    # {1, 3}: 2, one degree | {5}: none | {0, 3, 6}: 18, two degrees
    assert variance_within(LoggedRewards(np.array([1.0, 5, 3, 0, 3, 6]), np.array([0, 1, 0, 2, 2, 2]))) == pytest.approx(20 / 3)
    assert variance_within(LoggedRewards(np.array([1.0, 5]), np.array([0, 1]))) is None


def test_a_blend_is_nearer_to_the_truth_than_samples_or_ridge_and_knows_by_how_much():
    random, count = np.random.default_rng(2), 400
    truth = expected(count) + random.normal(0, 0.1, count)
    sampled = truth[:, None] + random.normal(0, 0.2, (count, 4))
    said = []
    given = evidence(prompts(count), np.zeros(count), sampled=sampled, bounds=UNBOUNDED, said=said)
    values = Blend(**OPTIONS, **SAMPLED).estimate(given).of("train", *everyone(count))
    ridge = Ridge(**OPTIONS).fit(sampled.mean(axis=1), np.ones(count), given).held_out
    weight = float(said[1].split("λ = ")[1].split()[0])
    np.testing.assert_allclose(values, weight * sampled.mean(axis=1) + (1 - weight) * ridge, atol=1e-3)
    assert weight == pytest.approx(0.5, abs=0.08)  # 0.1² / (0.1² + 0.2² / 4)
    error = {
        name: np.mean((v - truth) ** 2) for name, v in (("blend", values), ("ridge", ridge), ("samples", sampled.mean(axis=1)))
    }
    assert error["blend"] < 0.75 * min(error["ridge"], error["samples"])
    assert float(said[1].split("expected MSE of V(x) ")[1].split(",")[0]) == pytest.approx(error["blend"], rel=0.15)


def test_one_sample_is_weighed_by_how_much_logged_responses_vary_or_refused():
    random, count = np.random.default_rng(2), 200
    groups = np.repeat(np.arange(count), 2)
    logged = expected(count)[groups] + random.normal(0, 0.2, 2 * count)
    sampled, said = (expected(count) + random.normal(0, 0.2, count))[:, None], []
    method = Blend(**OPTIONS, **SAMPLED | {"samples": 1})
    method.estimate(evidence(prompts(count), logged, groups, sampled, bounds=UNBOUNDED, said=said))
    assert said[1].startswith("  one sample per prompt: its variance, 0.0")
    assert "blend with 1 sample per prompt: weight of the samples' mean λ = 0." in said[2]
    with pytest.raises(UserError, match=r"cannot tell how much one sample varies.*\nvalues\.samples=2"):
        method.estimate(evidence(prompts(count), sampled[:, 0], None, sampled, bounds=UNBOUNDED))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Prompts whose first word tells the reward, and is cut off for the model."""
    place = tmp_path_factory.mktemp("rows")
    for split in ("train", "validation", "test"):
        rows = [
            {
                "prompt": f"{split} {WORDS[i % 4]}: please answer this ticket of mine as soon as you can, number {i}",
                "response": "Yes.",
            }
            | {"reward": expected()[i]}
            for i in range(24)
        ]
        write_rows(place / f"{split}.jsonl", rows)
    return place


def values_of(folder, out, *options):
    small = ("model.vocab_size=300", "model.hidden_size=16", "model.layers=1", "model.heads=2", "model.intermediate_size=16")
    limits = ("task.max_prompt_tokens=8", "task.max_response_tokens=4", "reference.updates=1", "reference.eval_every=1")
    line = Pipeline(composed("task=local", f"task.path={folder}", *small, *limits, *options))
    return store(out).ensure(line.values)


@pytest.mark.slow
def test_values_are_predicted_from_what_was_cut_off_for_the_model(folder, tmp_path, capsys):
    found = values_of(folder, tmp_path, "reward=column", "values=ridge")
    for split in ("train", "validation", "test"):
        assert np.corrcoef(load_values(found, split), expected(24))[0, 1] > 0.9
    assert not (found / "states").exists()
    values_of(folder, tmp_path, "reward=column", "values=ridge", "values.features=both")
    assert "TF-IDF of words of whole prompts and pooled states): held-out MSE" in capsys.readouterr().err


@pytest.mark.slow
def test_a_blend_runs_from_samples_to_values(folder, tmp_path, capsys):
    found = values_of(folder, tmp_path, "reward=length", "values=blend")
    assert len(load_values(found, "train")) == 24
    assert "blend with 2 samples per prompt" in capsys.readouterr().err
    assert not (found / "validation").exists()
