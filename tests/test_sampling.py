import numpy as np
import pytest
from scipy.stats import chi2

from aloll_cli.training.sampling import All, BatchSampler, Priority, Uniform, philox

WEIGHTS = np.array([0.0, 1.0, 0.0, 2.0, 5.0, 0.5, 0.0])


def drawn(frequencies, batch_size=2000, updates=100, seed=1):
    draws = BatchSampler(frequencies, batch_size, seed)
    return np.concatenate([draws.rows(update) for update in range(updates)])


def test_draws_are_a_function_of_seed_and_update():
    draws = BatchSampler(WEIGHTS, 64, seed=3)
    backwards = {update: draws.rows(update) for update in reversed(range(5))}
    for update in range(5):
        assert np.array_equal(BatchSampler(WEIGHTS, 64, seed=3).rows(update), backwards[update])
        assert not np.array_equal(BatchSampler(WEIGHTS, 64, seed=4).rows(update), backwards[update])
    assert len({rows.tobytes() for rows in backwards.values()}) == 5


def test_an_update_draws_as_many_rows_as_asked_for():
    for batch_size in (1, 3, 16, 1000):
        assert BatchSampler(WEIGHTS, batch_size, seed=1).rows(7).shape == (batch_size,)


def test_frequencies_worked_by_hand():
    assert Priority(exponent=1.0).frequencies(WEIGHTS).tolist() == WEIGHTS.tolist()
    assert Priority(exponent=2.0).frequencies(WEIGHTS).tolist() == [0, 1, 0, 4, 25, 0.25, 0]
    assert Priority(exponent=0.5).frequencies(np.array([-4.0, 0.0, 4.0])).tolist() == [0, 0, 2]
    assert Uniform().frequencies(WEIGHTS).tolist() == [0, 1, 0, 1, 1, 1, 0]
    assert All().frequencies(WEIGHTS).tolist() == [1] * 7


@pytest.mark.parametrize("sampling", [Priority(exponent=1.0), Priority(exponent=0.3), Uniform()])
def test_rows_of_weight_zero_are_never_drawn(sampling):
    rows = drawn(sampling.frequencies(WEIGHTS))
    assert set(rows) == {1, 3, 4, 5}


@pytest.mark.parametrize("sampling", [Priority(exponent=1.0), Priority(exponent=2.0), Uniform(), All()])
def test_rows_are_drawn_in_proportion_to_their_frequency(sampling):
    frequencies = sampling.frequencies(WEIGHTS)
    counts = np.bincount(drawn(frequencies), minlength=len(WEIGHTS))
    expected = 200_000 * frequencies / frequencies.sum()
    likely = expected > 0
    statistic = ((counts - expected)[likely] ** 2 / expected[likely]).sum()
    assert counts.sum() == 200_000
    assert statistic < chi2(likely.sum() - 1).ppf(0.999)


def test_duplicates_within_an_update_come_as_often_as_chance_has_it():
    # two of two draws from four equal rows agree with probability 1/4
    pairs = drawn(np.ones(4), batch_size=2, updates=20_000).reshape(-1, 2)
    assert np.mean(pairs[:, 0] == pairs[:, 1]) == pytest.approx(0.25, abs=0.012)


def test_the_random_numbers_of_different_updates_share_none():
    streams = [philox(5, update).bit_generator.random_raw(10_000) for update in range(21)]
    assert len(np.unique(np.concatenate(streams))) == 21 * 10_000


def test_counting_updates_in_the_low_word_would_overlap():
    low = [np.random.Philox(key=5, counter=[update, 0, 0, 0]).random_raw(10_000) for update in range(2)]
    assert np.array_equal(low[0][4:], low[1][:-4])


def test_more_rows_than_2_to_the_24_are_within_reach():
    frequencies = np.zeros(2**24 + 10)
    frequencies[-1] = 1.0
    assert set(BatchSampler(frequencies, 100, seed=1).rows(0)) == {2**24 + 9}


def test_small_weights_behind_a_large_sum_are_not_rounded_away():
    # in 32 bits 2²⁴ + 1 is 2²⁴, and the tail would never be drawn
    frequencies = np.ones(2**20 + 1)
    frequencies[0] = 2.0**24
    share = np.mean(drawn(frequencies, updates=20) > 0)
    assert share == pytest.approx(2**20 / (2**24 + 2**20), abs=0.006)
