"""Check how often a nominal 95 % confidence interval covers the true mean difference of two methods, by simulation.

    python scripts/simulate_coverage.py                               # some 20 seconds on one core
    python scripts/simulate_coverage.py --mine outputs/*/metrics/seq-s?-test-* --others outputs/*/metrics/nll-s?-test-*

Each repeat makes differences D[g, s] = μ + a_g + b_s + e_gs of 249 prompts and some seeds, and three intervals from them:
aloll_cli.metrics.crossed, a hierarchical bootstrap (prompts and seeds resampled, 95 % percentiles) and Student's t over the
seeds' means. Prompt effects a are normal, heavy-tailed (t with 3 degrees of freedom) or skewed (gamma of shape 1/4, skewness 4);
their standard deviation, and that of the normal residuals e, are --prompt-sd and --residual-sd. "resampled" takes a prompt's
differences from real ones: prompts are drawn with replacement, and for each seed one of the prompt's values, so that residuals
differ from prompt to prompt as they do in fact. Seed effects b are normal in all cases. Ends with exit code 1 where the coverage
of a crossed interval is not within 93 to 97 % from 5 seeds on. The last table is of gains at equal length
(aloll_cli.metrics.length_control), where lengths differ by 4 ± 6 words from the reference's and a word is worth 0.01: their
coverage is not part of this check, because it is meant to err on the wide side.

The real differences are a CSV file, a row per prompt and a column per seed: review_differences.csv, unless --mine and --others
name folders of metrics, which are paired by seed; --save writes theirs. review_differences.csv holds VADER rewards of seq minus
those of nll on the embedded reviews as they were before their prompts carried moods, written by --save after

    aloll run -m variant=nll,seq seed=1,2,3,4,5 updates=100 eval_every=50 eval_prompts=64 reference.updates=200 threads=1
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from aloll_cli.comparison.runs import load_run
from aloll_cli.metrics.crossed import Estimate, crossed, unpaired
from aloll_cli.metrics.length_control import at_equal_length

Array = np.ndarray[Any, np.dtype[np.float64]]
Generator = np.random.Generator
Draw = Callable[[Generator, int, int], Array]  # of repeats and seeds

PROMPTS = 249
SEEDS = (3, 5, 10)
SEED_SDS = (0.006, 0.015, 0.025)  # of the difference of two methods
LENGTH_PROMPTS = (10, 30, 100, 250)
ALLOWED = (0.93, 0.97)  # from 5 seeds on
EFFECTS: dict[str, Callable[[Generator, tuple[int, ...]], Array]] = {  # of mean 0 and variance 1
    "normal": lambda rng, shape: rng.normal(size=shape),
    "heavy-tailed": lambda rng, shape: rng.standard_t(3, shape) / 3**0.5,
    "skewed": lambda rng, shape: 2 * rng.gamma(0.25, size=shape) - 0.5,
}
# seeds of either side, how many of them are shared, and the correlation of the two methods' effects of a shared seed
UNPAIRED = ((5, 5, 0, 0.0), (5, 3, 3, 0.0), (5, 3, 3, 0.5), (10, 5, 5, 0.0), (10, 5, 5, 0.5))


def read_differences(mine: Sequence[Path], others: Sequence[Path]) -> Array:
    """(G, S) differences of rewards, from folders of metrics of two methods with the same seeds and prompts."""
    runs = [{run.seed: run for run in map(load_run, folders)} for folders in (mine, others)]
    if runs[0].keys() != runs[1].keys():
        raise SystemExit(f"both methods need the same seeds: {sorted(map(str, runs[0]))} and {sorted(map(str, runs[1]))}")
    prompts = next(iter(runs[0].values())).prompts
    left, right = (np.stack([side[seed].by_prompt(prompts, "reward") for seed in runs[0]], axis=1) for side in runs)
    differences: Array = left - right
    return differences


def effects_sds(estimate: Estimate) -> tuple[float, float]:
    """Standard deviations of prompt effects and of residuals, by the mean squares of (G, S) real differences."""
    variance, (seeds,) = estimate.standard_error**2 * estimate.prompts, estimate.seeds
    return (estimate.shares.prompts * variance) ** 0.5, ((estimate.shares.residual or 0.0) * variance * seeds) ** 0.5


def made_up(name: str, prompt_sd: float, residual_sd: float) -> Draw:
    """A draw of (R, G, S) differences without seed effects and of mean 0."""

    def draw(rng: Generator, repeats: int, seeds: int) -> Array:
        prompt_effects = prompt_sd * EFFECTS[name](rng, (repeats, PROMPTS, 1))
        return prompt_effects + residual_sd * rng.normal(size=(repeats, PROMPTS, seeds))

    return draw


def resampled(real: Array) -> Draw:
    """A draw of (R, G, S) differences without seed effects and of mean 0, from (N, K) real ones."""

    def draw(rng: Generator, repeats: int, seeds: int) -> Array:
        prompts = rng.integers(len(real), size=(repeats, PROMPTS, 1))
        drawn: Array = real[prompts, rng.integers(real.shape[1], size=(repeats, PROMPTS, seeds))]
        return drawn - real.mean()

    return draw


def crossed_bounds(differences: Array) -> Array:
    """(2, R) bounds by aloll_cli.metrics.crossed of (R, G, S) differences."""
    return np.array([crossed(one).ci95 for one in differences]).T


def bootstrap_bounds(differences: Array, rng: Generator, resamples: int = 500) -> Array:
    """(2, R) bounds of a hierarchical bootstrap; all repeats share the resamples, which differ between cells of the table."""
    repeats, prompts, seeds = differences.shape
    weights = [rng.multinomial(n, np.full(n, 1 / n), size=resamples) / n for n in (prompts, seeds)]
    over_prompts = (weights[0] @ differences.transpose(1, 0, 2).reshape(prompts, -1)).reshape(resamples, repeats, seeds)
    means = (over_prompts * weights[1][:, None, :]).sum(axis=2)
    bounds: Array = np.percentile(means, [2.5, 97.5], axis=0)
    return bounds


def t_bounds(differences: Array) -> Array:
    """(2, R) bounds of Student's t over the seeds' means."""
    means = differences.mean(axis=1)
    half = stats.t.ppf(0.975, means.shape[1] - 1) * stats.sem(means, axis=1)
    return np.stack([means.mean(axis=1) - half, means.mean(axis=1) + half])


def coverage(bounds: Array, truth: float = 0.0) -> float:
    """The share of (2, R) intervals that hold the truth."""
    return float(np.mean((bounds[0] <= truth) & (truth <= bounds[1])))


def paired_cell(draw: Draw, seeds: int, sd: float, repeats: int, rng: Generator) -> list[float]:
    """Coverage of the three intervals."""
    differences = draw(rng, repeats, seeds) + sd * rng.normal(size=(repeats, 1, seeds))
    bounds = crossed_bounds(differences), bootstrap_bounds(differences, rng), t_bounds(differences)
    return [coverage(one) for one in bounds]


def unpaired_cell(
    case: tuple[int, int, int, float], sd: float, prompt_sd: float, residual_sd: float, repeats: int, rng: Generator
) -> float:
    """Coverage for seeds of which only some are shared; either side has half the variance of seeds and residual."""
    mine, others, shared, correlation = case
    found = []
    for _ in range(repeats):
        left, right = rng.normal(size=mine), rng.normal(size=others)
        right[:shared] = correlation * left[:shared] + (1 - correlation**2) ** 0.5 * right[:shared]
        level = rng.normal(0.5, 0.15, size=(PROMPTS, 1))  # the level of both responses to a prompt
        sides = [
            level + effects + (sd * by_seed + residual_sd * rng.normal(size=(PROMPTS, len(by_seed)))) / 2**0.5
            for effects, by_seed in ((prompt_sd * rng.normal(size=(PROMPTS, 1)), left), (0.0, right))
        ]
        found.append(unpaired(*sides).ci95)
    return coverage(np.array(found).T)


def equal_length_cell(draw_lengths: Callable[..., Array], prompts: int, seeds: int, repeats: int, rng: Generator) -> float:
    """Coverage of the crossed interval of the gain at equal length."""
    found = []
    for _ in range(repeats):
        longer = 4 + 6 * draw_lengths(rng, (prompts, seeds))
        effects = 0.1 * rng.normal(size=(prompts, 1)) + (0.015 * rng.normal(size=seeds) if seeds > 1 else 0.0)
        gains = effects + 0.01 * longer + 0.1 * rng.normal(size=(prompts, seeds))
        values = [value for run in zip(gains.T, longer.T, strict=True) if (value := at_equal_length(*run)) is not None]
        if len(values) == seeds:  # else the lengths tell nothing
            found.append(crossed(np.stack(values, axis=1)).ci95)
    return coverage(np.array(found).T)


def table_row(*cells: object) -> str:
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def simulate(real: Array, sds: tuple[float, float], repeats: int, seed: int) -> tuple[float, float]:
    """Print the tables; returns the lowest and the highest coverage of the crossed interval from 5 seeds on."""
    rng = np.random.default_rng(seed)
    of_prompts, of_residual = effects_sds(crossed(real))
    say(f"real differences: {real.shape[0]} prompts, {real.shape[1]} seeds, mean {real.mean():+.4f}")
    spread = real.mean(axis=0).std(ddof=1)
    say(f"their standard deviations: prompts {of_prompts:.3f}, residual {of_residual:.3f}, means of seeds {spread:.4f}")
    say(f"standard deviations of what is made up: prompts {sds[0]:.3f}, residual {sds[1]:.3f}")
    say(f"{repeats} repeats per figure, which has a standard error of {(0.95 * 0.05 / repeats) ** 0.5:.4f}")
    heads = [f"seed s.d. {sd}" for sd in SEED_SDS]

    say("\nPaired by seed: coverage of crossed / hierarchical bootstrap / t over seeds' means\n")
    say(table_row("prompt effects", "seeds", *heads))
    say(table_row(*["---"] * 5))
    covered: list[float] = []
    for name in (*EFFECTS, "resampled"):
        draw = resampled(real) if name == "resampled" else made_up(name, *sds)
        for seeds in SEEDS:
            cells = [paired_cell(draw, seeds, sd, repeats, rng) for sd in SEED_SDS]
            covered += [cell[0] for cell in cells] if seeds >= 5 else []
            say(table_row(name, seeds, *(" / ".join(f"{share:.3f}" for share in cell) for cell in cells)))

    say("\nSeeds that only one side has: coverage of unpaired\n")
    say(table_row("seeds", "shared", "correlation", *heads))
    say(table_row(*["---"] * 6))
    for case in UNPAIRED:
        shares = [unpaired_cell(case, sd, *sds, repeats, rng) for sd in SEED_SDS]
        say(table_row(f"{case[0]}, {case[1]}", *case[2:], *(f"{share:.3f}" for share in shares)))

    say("\nAt equal length: coverage of crossed, by prompts\n")
    say(table_row("lengths", "seeds", *LENGTH_PROMPTS))
    say(table_row(*["---"] * (2 + len(LENGTH_PROMPTS))))
    for name, draw_lengths in EFFECTS.items():
        for seeds in (1, 5):
            cells = [equal_length_cell(draw_lengths, prompts, seeds, repeats, rng) for prompts in LENGTH_PROMPTS]
            say(table_row(name, seeds, *(f"{share:.3f}" for share in cells)))

    say(f"\ncrossed, from 5 seeds on: {min(covered):.3f} to {max(covered):.3f}")
    return min(covered), max(covered)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=2000, help="simulated comparisons per figure (default: 2000)")
    parser.add_argument("--seed", type=int, default=1, help="of the simulation (default: 1)")
    parser.add_argument("--prompt-sd", type=float, default=0.15, help="of made-up prompt effects (default: 0.15)")
    parser.add_argument("--residual-sd", type=float, default=0.15, help="of made-up residuals (default: 0.15)")
    parser.add_argument("--mine", type=Path, nargs="+", default=[], help="folders of metrics of one method")
    parser.add_argument("--others", type=Path, nargs="+", default=[], help="folders of metrics of the other, with the same seeds")
    parser.add_argument("--save", type=Path, help="write the real differences to this CSV file")
    options = parser.parse_args()

    if options.mine:
        real = read_differences(options.mine, options.others)
    else:
        real = np.loadtxt(Path(__file__).with_name("review_differences.csv"), delimiter=",", ndmin=2)
    if options.save:
        np.savetxt(options.save, real, fmt="%.4f", delimiter=",")
    lowest, highest = simulate(real, (options.prompt_sd, options.residual_sd), options.repeats, options.seed)
    sys.exit(not ALLOWED[0] <= lowest <= highest <= ALLOWED[1])


if __name__ == "__main__":
    main()
