"""Intervals over prompts and seeds: by hand, against statsmodels and scipy, in their limits, and by their coverage."""

import math
import sys
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import simulate_coverage
import statsmodels.formula.api as smf
from evaluated import write_run
from scipy import stats
from statsmodels.stats.anova import anova_lm

from aloll_cli.metrics.crossed import crossed, difference, holm, unpaired

RNG = np.random.default_rng(7)
MADE_UP = 0.3 + RNG.normal(0, 0.3, (12, 1)) + RNG.normal(0, 0.2, (1, 5)) + RNG.normal(0, 0.25, (12, 5))


def made_up(prompts, seeds, prompt_sd, seed_sd, residual_sd, seed=1):
    rng = np.random.default_rng(seed)
    effects = rng.normal(0, prompt_sd, (prompts, 1)) + rng.normal(0, seed_sd, (1, seeds))
    return 0.1 + effects + rng.normal(0, residual_sd, (prompts, seeds))


def mean_squares(values):
    """Of prompts, seeds and residual, by statsmodels."""
    prompt, seed = np.indices(values.shape)
    table = pd.DataFrame({"value": values.ravel(), "prompt": prompt.ravel(), "seed": seed.ravel()})
    return anova_lm(smf.ols("value ~ C(prompt) + C(seed)", table).fit())["mean_sq"].to_numpy()


def t_interval(values):
    return tuple(stats.ttest_1samp(values, 0).confidence_interval())


def test_three_prompts_and_two_seeds_match_the_formula_by_hand():
    found = crossed(np.array([[1.0, 2.0], [3.0, 6.0], [2.0, 4.0]]))
    # means of prompts 1.5, 4.5, 3, of seeds 2, 4, of all 3:  MS_prompts = 2 (1.5² + 1.5² + 0²) / 2 = 4.5,
    # MS_seeds = 3 (1² + 1²) / 1 = 6;  residuals ∓0.5, ±0.5, 0:  MS_residual = 4 · 0.25 / 2 = 0.5
    # V = (4.5 + 6 − 0.5) / 6 = 5/3;  df = 10² / (4.5²/2 + 6²/1 + 0.5²/2) = 100 / 46.25;  t(0.975, 2.1622) = 4.00774
    assert found.mean == 3
    assert found.standard_error == pytest.approx(math.sqrt(5 / 3))
    assert found.df == pytest.approx(100 / 46.25)
    assert found.ci95 == pytest.approx((3 - 4.00774 * 1.290994, 3 + 4.00774 * 1.290994), abs=1e-4)
    assert found.p_value == pytest.approx(2 * stats.t.sf(3 / math.sqrt(5 / 3), 100 / 46.25))
    # variances: prompts (4.5 − 0.5) / 2 = 2, seeds (6 − 0.5) / 3 = 11/6, residual 0.5; of the mean 2/3, 11/12 and 1/12 of 5/3
    assert astuple(found.shares) == pytest.approx((0.4, 0.55, 0.05))
    assert (found.prompts, found.seeds, found.includes_seeds) == (3, (2,), True)


def test_the_standard_error_is_that_of_a_mixed_model_fitted_by_statsmodels():
    prompt, seed = np.indices(MADE_UP.shape)
    table = pd.DataFrame({"value": MADE_UP.ravel(), "prompt": prompt.ravel(), "seed": seed.ravel(), "all": 1})
    effects = {"prompt": "0 + C(prompt)", "seed": "0 + C(seed)"}
    fitted = smf.mixedlm("value ~ 1", table, groups="all", vc_formula=effects).fit(reml=True)
    found = crossed(MADE_UP)
    assert found.mean == pytest.approx(fitted.params["Intercept"], abs=1e-9)
    # REML equals the mean squares in a balanced layout; the fit stops a little earlier
    assert found.standard_error == pytest.approx(fitted.bse["Intercept"], rel=1e-3)


def test_variance_and_degrees_of_freedom_follow_from_statsmodels_mean_squares():
    found, squares = crossed(MADE_UP), mean_squares(MADE_UP)
    variance = squares @ [1, 1, -1]
    assert found.standard_error == pytest.approx(math.sqrt(variance / 60))
    assert found.df == pytest.approx(variance**2 / (squares**2 @ [1 / 11, 1 / 4, 1 / 44]))
    half = stats.t.ppf(0.975, found.df) * found.standard_error
    assert found.ci95 == pytest.approx((found.mean - half, found.mean + half))


def test_a_constant_moves_the_interval_and_a_factor_scales_it():
    found, moved, scaled = crossed(MADE_UP), crossed(MADE_UP + 2), crossed(-3 * MADE_UP)
    assert moved.ci95 == pytest.approx((found.ci95[0] + 2, found.ci95[1] + 2))
    assert (moved.standard_error, moved.df) == pytest.approx((found.standard_error, found.df))
    assert scaled.ci95 == pytest.approx((-3 * found.ci95[1], -3 * found.ci95[0]))
    assert (scaled.df, scaled.p_value) == pytest.approx((found.df, found.p_value))


def test_the_order_of_prompts_and_of_seeds_does_not_matter():
    assert crossed(MADE_UP[::-1, [2, 0, 4, 1, 3]]).ci95 == pytest.approx(crossed(MADE_UP).ci95)


def test_the_p_value_is_below_five_percent_exactly_where_the_interval_leaves_zero_out():
    found = crossed(MADE_UP)
    at_the_bound = crossed(MADE_UP - found.ci95[0])
    assert at_the_bound.p_value == pytest.approx(0.05)
    assert crossed(MADE_UP - found.ci95[0] + 1e-6).p_value < 0.05 < crossed(MADE_UP - found.ci95[0] - 1e-6).p_value


def test_one_seed_gives_the_t_interval_over_prompts_and_says_that_seeds_are_not_in_it():
    found = crossed(MADE_UP[:, :1])
    assert found.ci95 == pytest.approx(t_interval(MADE_UP[:, 0]))
    assert (found.df, found.seeds, found.includes_seeds) == (11, (1,), False)
    assert astuple(found.shares) == (1.0, None, None)


def test_a_seed_counted_several_times_gives_no_narrower_interval_than_once():
    once, repeated = crossed(MADE_UP[:, :1]), crossed(np.repeat(MADE_UP[:, :1], 5, axis=1))
    assert repeated.ci95 == pytest.approx(once.ci95)
    assert repeated.df == once.df


def test_many_prompts_leave_the_t_interval_over_seeds():
    values = made_up(20_000, 4, prompt_sd=0.2, seed_sd=0.05, residual_sd=0.2)
    found = crossed(values)
    assert found.ci95 == pytest.approx(t_interval(values.mean(axis=0)), rel=0.01)
    assert found.df == pytest.approx(3, rel=0.02)
    assert found.shares.seeds > 0.99


def test_many_seeds_leave_the_t_interval_over_prompts():
    values = made_up(30, 5_000, prompt_sd=0.2, seed_sd=0.05, residual_sd=0.2)
    found = crossed(values)
    assert found.ci95 == pytest.approx(t_interval(values.mean(axis=1)), rel=0.01)
    assert found.df == pytest.approx(29, rel=0.02)
    assert found.shares.prompts > 0.99


def test_seeds_that_vary_no_more_than_the_residual_leave_the_t_interval_over_prompts():
    values = made_up(40, 5, prompt_sd=0.2, seed_sd=0.0, residual_sd=0.2)
    values -= values.mean(axis=0)  # means of seeds that are all equal: the estimate of their variance is below 0
    found = crossed(values + 0.1)
    assert found.ci95 == pytest.approx(t_interval(values.mean(axis=1) + 0.1))
    assert (found.df, found.shares.seeds, found.includes_seeds) == (39, 0, True)
    assert sum(astuple(found.shares)) == pytest.approx(1)


def test_residuals_alone_give_a_positive_variance():
    checkered = np.array([[1.0, -1.0], [-1.0, 1.0]])  # neither prompts nor seeds differ: 0 + 0 − MS_residual is below 0
    found = crossed(checkered + [[0.5, 0.5], [0.0, 0.0]])
    # MS_prompts = 2 (0.25² + 0.25²) / 1 = 0.25, MS_seeds = 0: V = 0.25 / 4
    assert (found.standard_error, found.df) == (0.25, 1)
    assert astuple(found.shares) == (0, 0, 1)


@pytest.mark.parametrize(("value", "p_value"), [(0.0, 1.0), (0.1, 0.0)])
def test_where_nothing_varies_the_interval_is_the_point(value, p_value):
    found = crossed(np.full((250, 5), value))
    assert found.ci95 == pytest.approx((value, value))
    assert (found.standard_error, found.df, found.p_value) == (0, 249, p_value)
    assert astuple(found.shares) == (0, 0, 0)


def test_rounding_is_no_difference():
    found = unpaired(np.full((5, 2), 0.1 + 0.2), np.full((5, 3), 0.3))
    assert found.mean != 0
    assert (found.standard_error, found.p_value) == (0, 1)


def test_two_prompts_are_enough_for_a_wide_interval():
    found = crossed(np.array([[0.0, 0.1], [0.2, 0.4]]))
    assert found.df >= 1
    assert found.ci95[1] - found.ci95[0] > 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((1, 5)), r"two prompts and a seed: got \(1, 5\)"),
        (np.zeros((0, 5)), r"two prompts and a seed: got \(0, 5\)"),
        (np.zeros((5, 0)), r"two prompts and a seed: got \(5, 0\)"),
        (np.full((5, 2), math.nan), "finite"),
    ],
)
def test_too_few_or_missing_values_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        crossed(values)


def test_sides_with_different_prompts_are_refused():
    with pytest.raises(ValueError, match="the same prompts: 3 and 4"):
        unpaired(np.zeros((3, 2)), np.zeros((4, 2)))


def test_unpaired_seeds_match_the_formula_by_hand():
    found = unpaired(np.array([[1.0, 2.0], [3.0, 6.0], [2.0, 4.0]]), np.array([[0.0, 2.0], [1.0, 3.0], [2.0, 4.0]]))
    # mine as above: MS_seeds 6, MS_residual 0.5; others: prompts' means 1, 2, 3, MS_seeds = 3 (1² + 1²) = 6, MS_residual 0
    # d = 0.5, 2.5, 0 of mean 1: s² = (0.25 + 2.25 + 1) / 2 = 1.75;  V = 1.75/3 + 5.5/6 + 6/6 = 2.5
    # df = 2.5² / ((1.75/3)²/2 + (6/6)²/1 + (0.5/6)²/2 + (6/6)²/1 + 0) = 6.25 / 2.173611
    assert found.mean == 1
    assert found.standard_error == pytest.approx(math.sqrt(2.5))
    assert found.df == pytest.approx(6.25 / 2.173611)
    assert (found.seeds, found.includes_seeds) == ((2, 2), True)
    # prompts and residual 1.75/3, of it residual 0.5/6
    assert astuple(found.shares) == pytest.approx(((1.75 / 3 - 0.5 / 6) / 2.5, (5.5 / 6 + 1) / 2.5, 0.5 / 6 / 2.5))


def test_unpaired_seeds_of_many_prompts_give_welchs_t_interval_over_seeds():
    mine = made_up(20_000, 5, prompt_sd=0.1, seed_sd=0.05, residual_sd=0.1)
    others = made_up(20_000, 3, prompt_sd=0.1, seed_sd=0.02, residual_sd=0.1, seed=2)
    welch = stats.ttest_ind(mine.mean(axis=0), others.mean(axis=0), equal_var=False)
    found = unpaired(mine, others)
    assert found.ci95 == pytest.approx(tuple(welch.confidence_interval()), abs=0.002)
    assert found.df == pytest.approx(welch.df, rel=0.02)
    assert found.p_value == pytest.approx(welch.pvalue, rel=0.05)


def test_prompts_stay_paired_where_seeds_are_not():
    level = np.random.default_rng(4).normal(0, 10, (50, 1))  # some prompts are far easier than others, for both methods
    mine, others = made_up(50, 5, 0.1, 0.01, 0.1), made_up(50, 3, 0.1, 0.01, 0.1, seed=2)
    assert unpaired(mine + level, others + level).ci95 == pytest.approx(unpaired(mine, others).ci95)


def test_exchanging_the_sides_exchanges_the_bounds():
    mine, others = made_up(50, 5, 0.1, 0.01, 0.1), made_up(50, 3, 0.1, 0.01, 0.1, seed=2)
    there, back = unpaired(mine, others), unpaired(others, mine)
    assert there.ci95 == pytest.approx((-back.ci95[1], -back.ci95[0]))
    assert there.df == pytest.approx(back.df)


def test_a_side_with_one_seed_counts_as_given_and_the_result_says_so():
    mine, others = made_up(50, 5, 0.1, 0.05, 0.1), made_up(50, 1, 0.1, 0.05, 0.1, seed=2)
    found = unpaired(mine, others)
    assert found.ci95 == pytest.approx(crossed(mine - others).ci95)
    assert (found.seeds, found.includes_seeds) == ((5, 1), False)
    assert found.shares.prompts + found.shares.seeds == pytest.approx(1)
    assert found.shares.residual is None


def by_seed(values, first=1):
    return {first + i: column for i, column in enumerate(values.T)}


def test_methods_with_the_same_seeds_are_paired_by_them():
    mine, others = made_up(50, 5, 0.1, 0.05, 0.1), made_up(50, 5, 0.1, 0.05, 0.1, seed=2)
    backwards = dict(reversed(by_seed(others).items()))
    assert difference(by_seed(mine), backwards) == crossed(mine - others)


def test_methods_with_different_seeds_are_compared_over_all_their_runs():
    mine, others = made_up(50, 5, 0.1, 0.05, 0.1), made_up(50, 3, 0.1, 0.05, 0.1, seed=2)
    for first in (1, 9):  # three seeds are shared, or none
        found = difference(by_seed(mine), by_seed(others, first))
        assert found == unpaired(mine, others)
        assert found.mean == pytest.approx(mine.mean() - others.mean())


def test_a_policy_without_a_seed_is_fixed():
    mine, fixed = made_up(50, 5, 0.1, 0.05, 0.1), made_up(50, 1, 0.1, 0.05, 0.1, seed=2)
    found = difference(by_seed(mine), {None: fixed[:, 0]})
    assert found == crossed(mine - fixed)
    assert (found.seeds, found.includes_seeds) == ((5,), True)
    assert difference({None: fixed[:, 0]}, by_seed(mine)).mean == -found.mean


@pytest.mark.slow
def test_holm_multiplies_by_the_number_of_hypotheses_left():
    # sorted 0.01, 0.02, 0.03, 0.04: · 4, 3, 2, 1 = 0.04, 0.06, 0.06, 0.04, the last raised to 0.06
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.6, 0.9]) == [1, 1]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []


@pytest.mark.parametrize("name", [*simulate_coverage.EFFECTS, "resampled"])
def test_five_seeds_cover_the_truth_at_the_nominal_rate(name):
    real = np.loadtxt(Path(simulate_coverage.__file__).with_name("review_differences.csv"), delimiter=",")
    draw = simulate_coverage.resampled(real) if name == "resampled" else simulate_coverage.made_up(name, 0.15, 0.15)
    rng = np.random.default_rng(1)
    differences = draw(rng, 1000, 5) + 0.015 * rng.normal(size=(1000, 1, 5))
    assert 0.93 <= simulate_coverage.coverage(simulate_coverage.crossed_bounds(differences)) <= 0.97


@pytest.mark.parametrize("case", [(5, 5, 0, 0.0), (10, 5, 5, 0.0)])
def test_unpaired_seeds_cover_the_truth_at_the_nominal_rate(case):
    covered = simulate_coverage.unpaired_cell(case, 0.015, 0.07, 0.07, 1000, np.random.default_rng(1))
    assert 0.93 <= covered <= 0.97


def test_the_real_differences_are_told_apart_into_prompts_and_residual():
    values = made_up(2_000, 50, prompt_sd=0.2, seed_sd=0.05, residual_sd=0.1)
    assert simulate_coverage.effects_sds(crossed(values)) == pytest.approx((0.2, 0.1), rel=0.05)


def run_script(monkeypatch, capsys, *options):
    monkeypatch.setattr(sys, "argv", ["simulate_coverage.py", *map(str, options)])
    with pytest.raises(SystemExit):
        simulate_coverage.main()
    return capsys.readouterr().out.splitlines()


def test_the_simulation_prints_a_row_for_every_case(monkeypatch, capsys):
    lines = run_script(monkeypatch, capsys, "--repeats=4")
    for name in (*simulate_coverage.EFFECTS, "resampled"):
        at_equal_length = ["1", "5"] if name in simulate_coverage.EFFECTS else []
        assert [line.split(" | ")[1] for line in lines if line.startswith(f"| {name} |")] == ["3", "5", "10", *at_equal_length]
    assert sum(line.startswith(("| 5, ", "| 10, ")) for line in lines) == len(simulate_coverage.UNPAIRED)
    assert lines[-1].startswith("crossed, from 5 seeds on: ")


def test_the_simulation_reads_runs_and_saves_their_differences(monkeypatch, capsys, tmp_path):
    rewards = np.random.default_rng(1).uniform(size=(2, 3, 6)).round(2)
    folders = [
        [
            write_run(tmp_path, variant, seed, {f"prompt {i}": reward for i, reward in enumerate(own)})
            for seed, own in enumerate(runs)
        ]
        for variant, runs in zip(("seq", "nll"), rewards, strict=True)
    ]
    saved = tmp_path / "differences.csv"
    options = ["--mine", *folders[0], "--others", *reversed(folders[1]), "--save", saved, "--repeats", 2]
    assert run_script(monkeypatch, capsys, *options)[0].startswith("real differences: 6 prompts, 3 seeds, ")
    assert np.loadtxt(saved, delimiter=",") == pytest.approx((rewards[0] - rewards[1]).T)


def test_methods_without_the_same_seeds_do_not_make_a_file_of_differences(tmp_path):
    folders = [write_run(tmp_path, "seq", 1), write_run(tmp_path, "nll", 2)]
    with pytest.raises(SystemExit, match="the same seeds"):
        simulate_coverage.read_differences(folders[:1], folders[1:])
