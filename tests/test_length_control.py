"""The gain at equal length."""

import numpy as np
import pytest

from aloll_cli.metrics.crossed import crossed
from aloll_cli.metrics.length_control import at_equal_length, length_controlled


def test_the_length_controlled_gain_worked_by_hand():
    # Δlength 0, 2, 4, 6: mean 3, s = √((9 + 1 + 1 + 9) / 4) = √5; gains 1, 1, 3, 3: mean 2
    # per word: slope Σ(Δ − 3)(gain − 2) / Σ(Δ − 3)² = (3 + 1 + 1 + 3) / 20 = 0.4, so α = 2 − 0.4 · 3 = 0.8; β = 0.4 √5
    found = length_controlled(np.array([1.0, 1.0, 3.0, 3.0]), np.array([0.0, 2.0, 4.0, 6.0]), 10)
    assert found == {
        "mean": pytest.approx(0.8),
        "ci95": None,
        "slope": pytest.approx(0.4 * 5**0.5),
        "length_difference": pytest.approx(3.0),
    }


def test_a_gain_that_is_length_alone_is_0_at_equal_length_and_one_that_has_none_of_it_stays():
    longer = np.random.default_rng(1).normal(5.0, 3.0, 200)
    found = length_controlled(0.1 * longer, longer, 100)
    assert found["mean"] == pytest.approx(0, abs=1e-12)
    assert found["ci95"] == pytest.approx([0, 0], abs=1e-9)
    assert length_controlled(np.full(200, 0.7), longer, 100)["mean"] == pytest.approx(0.7)


def test_it_is_least_squares_and_the_interval_is_about_that_of_the_regression():
    random = np.random.default_rng(2)
    longer = random.normal(2.0, 4.0, 400)
    gains = 0.3 + 0.05 * longer + random.normal(0, 0.5, 400)
    found = length_controlled(gains, longer, 2000)
    z = longer / longer.std()
    design = np.stack([np.ones_like(z), z], axis=1)
    (alpha, beta), residual, *_ = np.linalg.lstsq(design, gains)
    assert (found["mean"], found["slope"]) == pytest.approx((alpha, beta))
    error = np.sqrt(residual[0] / 398 * np.linalg.inv(design.T @ design)[0, 0])
    assert found["ci95"] == pytest.approx([alpha - 1.96 * error, alpha + 1.96 * error], abs=0.01)
    assert found["ci95"][0] < 0.3 < found["ci95"][1]


def test_the_unit_of_length_does_not_matter():
    random = np.random.default_rng(3)
    gains, longer = random.normal(size=40), random.normal(1.0, 1.0, 40)
    words, characters = length_controlled(gains, longer, 50), length_controlled(gains, 5 * longer, 50)
    assert words["ci95"] == pytest.approx(characters["ci95"])
    assert (words["mean"], words["slope"]) == pytest.approx((characters["mean"], characters["slope"]))


def test_equal_lengths_leave_the_gain_alone_and_a_constant_difference_leaves_none():
    gains = np.arange(12.0)
    found = length_controlled(gains, np.zeros(12), 50)
    assert (found["mean"], found["slope"]) == (5.5, 0.0)
    assert found["ci95"][0] < 5.5 < found["ci95"][1]
    assert length_controlled(gains, np.full(12, 2.1), 50) is None


def test_resamples_without_variation_of_length_are_not_infinite():
    longer = np.zeros(12)
    longer[0] = 3.0
    found = length_controlled(np.arange(12.0), longer, 400)
    assert np.isfinite(found["ci95"]).all()
    assert found["mean"] == pytest.approx(6.0)  # the mean of 1 to 11: the first prompt tells the slope alone


def test_values_at_equal_length_worked_by_hand():
    # α 0.8 and slope 0.4 as above; residuals 0.2, -0.6, 0.6, -0.2; mean 3 and variance 5 of d, so that
    # w = 1 − 3 (d − 3) / 5 = 2.8, 1.6, 0.4, -0.8, and h = (1 + (d − 3)² / 5) / 4 = 0.7, 0.3, 0.3, 0.7
    found = at_equal_length(np.array([1.0, 1.0, 3.0, 3.0]), np.array([0.0, 2.0, 4.0, 6.0]))
    influence = np.array([0.2 * 2.8 / 0.3, -0.6 * 1.6 / 0.7, 0.6 * 0.4 / 0.7, -0.2 * -0.8 / 0.3])
    assert found == pytest.approx(0.8 + influence - influence.mean())


def test_the_mean_of_values_at_equal_length_is_the_estimate_and_their_interval_that_of_the_bootstrap():
    random = np.random.default_rng(4)
    longer = random.normal(2.0, 4.0, 400)
    gains = 0.3 + 0.05 * longer + random.normal(0, 0.5, 400)
    values, found = at_equal_length(gains, longer), length_controlled(gains, longer, 4000)
    assert values.mean() == pytest.approx(found["mean"])
    assert crossed(values[:, None]).ci95 == pytest.approx(found["ci95"], abs=0.005)


def test_the_interval_at_equal_length_over_seeds_holds_the_truth():
    # prompts move rewards and the slope is estimated anew in every run; seeds move the gain by 0.02
    random, hits, repeats = np.random.default_rng(5), 0, 400
    for _ in range(repeats):
        prompts = random.normal(0, 0.1, 100)
        runs = []
        for seed_effect in random.normal(0, 0.02, 5):
            longer = random.normal(8.0, 4.0, 100) + 20 * prompts
            runs.append(at_equal_length(0.1 + seed_effect + prompts + 0.01 * longer + random.normal(0, 0.1, 100), longer))
        # prompts with a high reward have long responses, so that the slope is 0.01 + cov(prompt, longer) / var(longer)
        slope = 20 * 0.01 / (16 + 400 * 0.01)
        lo, hi = crossed(np.stack(runs, axis=1)).ci95
        hits += lo <= 0.1 - slope * 8.0 <= hi
    assert 0.92 <= hits / repeats <= 0.98


def test_values_without_variation_of_length():
    gains = np.arange(12.0)
    assert at_equal_length(gains, np.zeros(12)) is gains
    assert at_equal_length(gains, np.full(12, 2.1)) is None
    assert at_equal_length(gains, np.tile([2.1, 2.1 + 1e-15], 6)) is None  # up to rounding


def test_a_prompt_that_alone_decides_is_no_estimate_and_one_that_alone_differs_has_no_say():
    gains, longer = np.arange(12.0), np.zeros(12)
    longer[3] = 5.0
    others = np.delete(gains, 3)
    assert at_equal_length(gains, longer).mean() == pytest.approx(others.mean())
    assert at_equal_length(gains, longer)[3] == pytest.approx(others.mean())
    assert at_equal_length(gains, 5.0 - longer) is None  # only prompt 3 has equal length
