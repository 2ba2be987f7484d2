from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import VOCABULARY, gpt2, llama
from torch.testing import assert_close

from aloll_cli.artifacts.values import checked
from aloll_cli.errors import UserError
from aloll_cli.models.value_head import HeadOptions, ValueHead, cross_fit, padded_states, predict, prompt_states, train_head
from aloll_cli.values.base import Evidence, LoggedRewards
from aloll_cli.values.constant import Constant
from aloll_cli.values.data import Data
from aloll_cli.values.group import Group
from aloll_cli.values.head import Head
from aloll_cli.values.monte_carlo import Aggregate, MonteCarlo

HIDDEN = 16
OPTIONS = HeadOptions(lo=0.0, hi=1.0, lr=1e-2, epochs=8, batch_size=16, dropout=0.1, weight_decay=0.01, seed=1)
LEARNED = {"lr": 1e-2, "epochs": 4, "batch_size": 16, "dropout": 0.1, "weight_decay": 0.01, "folds": 3, "seed": 1}


def head(lo=0.0, hi=1.0, dropout=0.5, seed=0):
    torch.manual_seed(seed)
    return ValueHead(HIDDEN, lo, hi, dropout)


def states(count, seed=0):
    """Prompts of 1 to 6 positions."""
    random = torch.Generator().manual_seed(seed)
    return [torch.randn(1 + i % 6, HIDDEN, generator=random) for i in range(count)]


def separable(count=60):
    """States whose first coordinate says whether the reward is 0.9 or 0.1."""
    found, targets = states(count), np.where(np.arange(count) % 2, 0.9, 0.1)
    for state, target in zip(found, targets, strict=True):
        state[:, 0] = 3.0 if target > 0.5 else -3.0
    return found, targets


def test_a_value_is_the_same_alone_and_in_any_batch():
    given, fitted = states(13), head()
    together = predict(fitted, given)
    assert len(set(together.round(4))) == 13
    np.testing.assert_allclose([predict(fitted, [state])[0] for state in given], together, atol=1e-5, rtol=0)
    for batch_size in (1, 4, 13):
        np.testing.assert_allclose(predict(fitted, given, batch_size), together, atol=1e-5, rtol=0)
    np.testing.assert_allclose(predict(fitted, given[::-1])[::-1], together, atol=1e-5, rtol=0)


@torch.no_grad()
def test_what_stands_at_padding_takes_no_part_in_a_value():
    fitted = head().eval()
    padded, mask = padded_states(states(6))
    expected = fitted(padded, mask)
    rubbish = torch.where(mask[..., None] == 1, padded, 100.0)
    assert_close(fitted(rubbish, mask), expected, atol=1e-5, rtol=0)
    on_the_left = torch.cat([torch.full((6, 3, HIDDEN), 50.0), rubbish], dim=1)
    left_mask = torch.cat([torch.zeros(6, 3, dtype=torch.long), mask], dim=1)
    assert_close(fitted(on_the_left, left_mask), expected, atol=1e-5, rtol=0)


def test_dropout_is_off_when_values_are_computed():
    fitted, given = head(dropout=0.5), states(9)
    fitted.train()
    assert np.array_equal(predict(fitted, given), predict(fitted, given))
    fitted.train()
    with torch.no_grad():
        first, second = (fitted(*padded_states(given)) for _ in range(2))
    assert not torch.allclose(first, second, atol=1e-3)


@pytest.mark.parametrize("make", [gpt2, llama], ids=["gpt2", "llama"])
def test_prompt_states_are_the_same_alone_and_in_any_batch(make):
    model, random = make(), np.random.default_rng(0)
    prompts = [random.integers(3, VOCABULARY, length) for length in (5, 1, 12, 3)]
    together = prompt_states(model, prompts, 0, 1000)
    assert [tuple(state.shape) for state in together] == [(5, 32), (1, 32), (12, 32), (3, 32)]
    for prompt, state in zip(prompts, together, strict=True):
        assert_close(prompt_states(model, [prompt], 0, 1000)[0], state, atol=1e-5, rtol=0)
        with torch.no_grad():
            unpadded = model.base_model(input_ids=torch.tensor(prompt)[None]).last_hidden_state[0]
        assert_close(state, unpadded, atol=1e-5, rtol=0)


def test_two_passes_over_the_prompts_give_the_same_bits():
    model, prompts = gpt2(dropout=0.5), [np.arange(3, 9), np.arange(5, 7)]
    for first, second in zip(*(prompt_states(model, prompts, 0, 1000) for _ in range(2)), strict=True):
        assert torch.equal(first, second)


@torch.no_grad()
def test_a_bounded_value_is_lo_plus_the_width_times_the_sigmoid():
    fitted = head(lo=-2.0, hi=3.0)
    fitted.linear.weight.zero_()
    for score, value in ((0.0, 0.5), (float(np.log(3)), 1.75), (200.0, 3.0), (-200.0, -2.0)):
        fitted.linear.bias.fill_(score)
        np.testing.assert_allclose(predict(fitted, states(3)), [value] * 3, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("bounds", [(-np.inf, np.inf), (0.0, np.inf)])
def test_an_unbounded_value_is_linear_in_standardised_targets(bounds):
    fitted = head(*bounds)
    fitted.linear.weight.zero_()
    fitted.linear.bias.fill_(2.0)
    fitted.shift.fill_(10.0)
    fitted.scale.fill_(3.0)
    np.testing.assert_allclose(predict(fitted, states(3)), [16.0] * 3, atol=1e-5)


@torch.no_grad()
def test_training_starts_from_the_best_constant():
    # (1 · 0.2 + 3 · 0.8) / 4 = 0.65
    targets, weights = torch.tensor([0.2, 0.8]), torch.tensor([1.0, 3.0])
    bounded, unbounded = head(), head(-np.inf, np.inf)
    for fitted in (bounded, unbounded):
        fitted.start_at(targets, weights)
        np.testing.assert_allclose(predict(fitted, states(2)), [0.65] * 2, atol=1e-5)
    assert unbounded.scale.item() == pytest.approx(np.std([0.2, 0.8]))


@torch.no_grad()
def test_an_unbounded_head_can_be_fitted_on_one_prompt():
    fitted = head(-np.inf, np.inf)
    fitted.start_at(torch.tensor([3.0]), torch.ones(1))
    np.testing.assert_allclose(predict(fitted, states(2)), [3.0] * 2, atol=1e-5)


@pytest.mark.parametrize(("lo", "hi"), [(0.0, 1.0), (-np.inf, np.inf)])
def test_a_head_learns_what_can_be_learned(lo, hi):
    given, targets = separable()
    fit = cross_fit(given, targets, np.ones(60), replace(OPTIONS, lo=lo, hi=hi), 3)
    assert fit.constant_error == pytest.approx(0.16, abs=0.01)
    assert fit.error < 0.05 * fit.constant_error
    assert fit.epoch > 0


def test_on_noise_a_head_claims_no_skill_and_stops_early():
    targets = np.random.default_rng(5).random(60)
    fit = cross_fit(states(60, seed=7), targets, np.ones(60), replace(OPTIONS, epochs=12), 3)
    assert fit.error > 0.95 * fit.constant_error
    assert fit.epoch < 6


def test_a_head_leaves_the_global_random_numbers_alone_and_is_a_function_of_its_seed():
    given, targets = separable(12)
    y, w = torch.tensor(targets, dtype=torch.float32), torch.ones(12)
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    values = [predict(train_head(given, y, w, replace(OPTIONS, seed=seed), 2), given) for seed in (1, 1, 2)]
    assert torch.equal(torch.rand(3), expected)
    assert np.array_equal(values[0], values[1])
    assert not np.array_equal(values[0], values[2])


def test_the_head_that_speaks_for_a_prompt_never_saw_its_fold():
    given, targets = separable(30)
    fit = cross_fit(given, targets, np.ones(30), replace(OPTIONS, epochs=4), 3)
    assert sorted(np.bincount(fit.folds)) == [10, 10, 10]
    for fold in range(3):
        rows = np.flatnonzero(fit.folds != fold).tolist()
        y, w = torch.tensor(targets[rows], dtype=torch.float32), torch.ones(len(rows))
        again = train_head([given[i] for i in rows], y, w, OPTIONS, fit.epoch)
        assert np.array_equal(predict(again, given), predict(fit.heads[fold], given))


def evidence(given, rewards, groups=None, sampled=None, bounds=(0.0, 1.0), said=None):
    groups = np.arange(len(rewards)) if groups is None else np.array(groups)
    return Evidence(
        range=bounds,
        train=LoggedRewards(np.array(rewards, dtype=np.float64), groups),
        sample_rewards=None if sampled is None else np.array(sampled).reshape(len(sampled), -1),
        states=lambda split, prompts: [given[i] for i in prompts],
        texts=lambda split, prompts: [""] * len(prompts),
        say=(said if said is not None else []).append,
        warn=(said if said is not None else []).append,
    )


def test_values_from_data_do_not_depend_on_the_prompts_own_reward():
    given, targets = separable(30)
    targets = targets + np.linspace(0, 0.01, 30)
    logged = LoggedRewards(None, np.arange(30))
    method = Data(**(LEARNED | {"epochs": 1}))
    before = method.estimate(evidence(given, targets)).of("train", logged, slice(0, 30))
    own = 7
    altered = targets.copy()
    altered[own] -= 0.3
    folds = cross_fit(given, targets, np.ones(30), method.options((0.0, 1.0)), 3).folds
    after = method.estimate(evidence(given, altered)).of("train", logged, slice(0, 30))
    same_fold = folds == folds[own]
    assert after[own] == before[own]
    assert np.array_equal(after[same_fold], before[same_fold])
    assert (after[~same_fold] != before[~same_fold]).all()


def test_values_from_data_are_one_a_prompt_and_the_mean_of_the_heads_elsewhere():
    given, targets = separable(18)
    groups = np.repeat(np.arange(18), 2)
    estimate = Data(**LEARNED).estimate(evidence(given, np.repeat(targets, 2), groups))
    values = estimate.of("train", LoggedRewards(None, groups), slice(0, 36)).reshape(18, 2)
    assert np.array_equal(values[:, 0], values[:, 1])
    blocks = [estimate.of("train", LoggedRewards(None, groups), slice(start, start + 9)) for start in range(0, 36, 9)]
    np.testing.assert_allclose(np.concatenate(blocks), values.ravel(), atol=1e-6)
    elsewhere = estimate.of("validation", LoggedRewards(None, np.arange(18)), slice(0, 18))
    np.testing.assert_allclose(elsewhere, np.mean([predict(h, given) for h in estimate.heads], axis=0), atol=1e-6)


def test_the_papers_head_is_fitted_on_validation_samples_and_reads_no_logged_reward():
    given, targets = separable(30)
    rows = LoggedRewards(None, np.arange(30))
    values = [
        Head(**LEARNED).estimate(evidence(given, logged, sampled=targets)).of("train", rows, slice(0, 30))
        for logged in (targets, np.zeros(30))
    ]
    assert np.array_equal(*values)
    assert np.corrcoef(values[0], targets)[0, 1] > 0.9


def test_several_samples_of_a_prompt_are_one_target_their_mean():
    given, targets = separable(30)
    rows = LoggedRewards(None, np.arange(30))
    several = np.stack([targets - 0.1, targets + 0.05, targets + 0.05], axis=1)
    values = [
        Head(**LEARNED).estimate(evidence(given, np.zeros(30), sampled=sampled)).of("train", rows, slice(0, 30))
        for sampled in (targets, several)
    ]
    np.testing.assert_allclose(*values, atol=1e-6)


def test_a_head_that_is_no_better_than_a_constant_says_so():
    said = []
    noise = np.random.default_rng(1).random(24)
    Data(**(LEARNED | {"lr": 0.3})).estimate(evidence(states(24), noise, said=said))
    assert "value head: held-out MSE" in said[0]
    assert "(predicting the mean: " in said[0]
    constant = []
    Data(**LEARNED).estimate(evidence(states(24), np.full(24, 0.25), said=constant))
    assert "no better than their mean" in constant[1]
    worse = []
    noise = np.random.default_rng(5).random(60)
    estimate = Data(**(LEARNED | {"lr": 0.3, "epochs": 3})).estimate(evidence(states(60, seed=7), noise, said=worse))
    assert "so V(x) is their mean" in worse[1]
    values = estimate.of("train", LoggedRewards(noise, np.arange(60)), slice(0, 60))
    folds = np.unique(values.round(5))
    assert len(folds) == 3
    np.testing.assert_allclose([noise[values.round(5) != mean].mean() for mean in folds], folds, atol=2e-5)
    learned = []
    Data(**LEARNED).estimate(evidence(*separable(30), said=learned))
    assert not any("no better" in line for line in learned)


def test_group_values_are_the_mean_of_the_others_worked_by_hand():
    # prompts: {1, 2, 6}, {4}, {0, 2}; the lone one gets the mean of all, 15 / 6
    rewards, groups, said = [1, 4, 2, 0, 6, 2], np.array([0, 1, 0, 2, 0, 2]), []
    estimate = Group().estimate(evidence([], rewards, groups, said=said))
    logged = LoggedRewards(np.array(rewards, dtype=np.float64), groups)
    assert estimate.of("train", logged, slice(0, 6)).tolist() == [4.0, 2.5, 3.5, 2.0, 1.5, 0.0]
    assert estimate.of("train", logged, slice(2, 4)).tolist() == [3.5, 2.0]
    assert estimate.of("validation", LoggedRewards(None, groups), slice(0, 2)).tolist() == [2.5, 2.5]
    assert said == ["  33.3% of the training prompts have a single response; their value is the mean reward over all responses"]


def test_monte_carlo_values_are_the_means_of_the_samples_of_the_prompt_worked_by_hand():
    said = []
    method = MonteCarlo(samples=2, aggregate=Aggregate.mean, beta=0.1, seed=1, top_p=1.0, temperature=1.0)
    found = evidence([], [9.0] * 4, [0, 1, 0, 2], sampled=[[0.0, 1.0], [0.5, 0.25], [1.0, 1.0]], said=said)
    logged = LoggedRewards(np.full(4, 9.0), np.array([0, 1, 0, 2]))
    assert method.estimate(found).of("train", logged, slice(0, 4)).tolist() == [0.5, 0.375, 0.5, 1.0]
    assert method.estimate(found).of("train", logged, slice(1, 3)).tolist() == [0.375, 0.5]
    # sample variances 1/2, 1/32, 0: √(0.17708 / 2) = 0.298
    assert "2 samples per prompt: standard error of V(x) 0.298" in said[0]


def test_the_value_of_equal_rewards_is_exactly_these():
    # sums of 0.7 and means of three of them are not 0.7 in floating point; nor is 0.3 the mean of 0.2 and 0.4
    rewards, groups = np.array([0.7, 0.7, 0.7, 0.7, 0.2, 0.3, 0.4]), np.array([0, 0, 0, 0, 1, 1, 1])
    logged = LoggedRewards(rewards, groups)
    values = Group().estimate(evidence([], rewards, groups)).of("train", logged, slice(0, 7))
    assert (rewards - values)[[0, 1, 2, 3, 5]].tolist() == [0.0] * 5
    assert values[[4, 6]] == pytest.approx([0.35, 0.25])
    sampled = np.array([[0.7] * 3, [0.1, 0.2, 0.6]])
    values = MonteCarlo(samples=3, aggregate=Aggregate.mean, beta=0.1, seed=1, top_p=1.0, temperature=1.0)
    found = values.estimate(evidence([], rewards, groups, sampled=sampled)).of("train", logged, slice(0, 7))
    assert (rewards - found)[[0, 1, 2, 3, 5]].tolist() == [0.0] * 5


def test_group_values_need_a_prompt_with_two_responses():
    with pytest.raises(UserError, match=r"every prompt has only one.*\nvalues=data"):
        Group().check_data({"train": np.array([1, 1])}.__getitem__)
    Group().check_data({"train": np.array([1, 2])}.__getitem__)


def test_a_constant_is_the_one_given_or_the_mean_reward():
    logged = LoggedRewards(None, np.arange(3))
    for value, expected in ((0.3, 0.3), (None, 2.0)):
        estimate = Constant(value=value).estimate(evidence([], [1.0, 2.0, 3.0]))
        assert estimate.of("train", logged, slice(0, 2)).tolist() == [expected] * 2


@pytest.mark.parametrize(
    ("values", "what"), [([0.1, float("nan")], "values that are not finite"), ([0.1], "1 values for 2 responses")]
)
def test_values_that_are_missing_or_not_finite_are_refused(values, what):
    with pytest.raises(UserError, match=f"values=mine gave {what}"):
        checked(np.array(values), 2, "mine")
