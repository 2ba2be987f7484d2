"""Measure how much of V(x) each choice of values= explains, against the mean reward of many new samples of the reference.

    python scripts/values_explained.py reward=vader experiment=hha_small task.path=FOLDER threads=1

Overrides are those of ``aloll precompute-values``, without values=. The truth is the mean reward of --samples responses of π_ref
to --prompts training prompts, decoded as values=monte_carlo decodes but with other random numbers. The samples' own noise is
subtracted: with T the mean of k samples and ν the mean of their variance / k,

    share explained = 1 − (mean (V − T)² − ν) / (variance of T − ν).

A constant other than the mean lowers it; "up to a constant" is the share with the variance of V − T instead of its mean square.
The error is √(mean (V − T)² − ν), in units of the reward. Where V hardly varies between prompts, as under a reward that depends
on the response alone, there is nothing to explain: the shares are of something near 0, and only errors can be compared.
Intervals are from a bootstrap over prompts, 95 %. --truth names a file that keeps the responses, for other rewards. Values are
built in output_dir, and reused.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aloll_cli.api import compose
from aloll_cli.arrays import FloatArray
from aloll_cli.artifacts.pipeline import Pipeline
from aloll_cli.artifacts.values import load_values
from aloll_cli.command import Command
from aloll_cli.models.decoding import Sample
from aloll_cli.models.generation import respond
from aloll_cli.models.saving import load_tokenizer
from aloll_cli.rewards.base import Row
from aloll_cli.rewards.scoring import checked_scores
from aloll_cli.runtime.terminal import Log
from aloll_cli.runtime.world import Alone
from aloll_cli.schema import name_of
from aloll_cli.stopping import Stopper
from aloll_cli.store.store import Job, Store
from aloll_cli.text.examples import ExampleTable

SAMPLED = [f"values={name} values.samples={k}" for name in ("monte_carlo", "blend") for k in (1, 2, 4)]
RIDGES = ["values=ridge", "values=ridge values.features=states", "values=ridge values.features=both"]
METHODS = ["values=constant", "values=head", "values=data", *RIDGES, *SAMPLED]
SEED = 1_000_003  # of the truth; values.seed must be another
RESAMPLES = 2000


@dataclass(frozen=True)
class Truth:
    """Rewards of new samples of π_ref.

    Attributes:
        prompts: (P,) indices of unique training prompts.
        rewards: (P, k) rewards of k samples for each.
    """

    prompts: np.ndarray
    rewards: FloatArray

    def variance(self, chosen: np.ndarray) -> tuple[float, float]:
        """The variance of V over some of the P prompts, and ν, that of the mean of the samples around it."""
        rewards = self.rewards[chosen]
        noise = float(rewards.var(axis=1, ddof=1).mean() / rewards.shape[1])
        return float(rewards.mean(axis=1).var(ddof=1)) - noise, noise

    def explained(self, values: FloatArray, chosen: np.ndarray) -> tuple[float, float, float]:
        """Over some of the P prompts: the mean squared error of (P,) values, the share explained, and that up to a constant."""
        off = values[chosen] - self.rewards[chosen].mean(axis=1)
        variance, noise = self.variance(chosen)
        error = float(np.mean(off**2)) - noise
        return error, 1 - error / variance, 1 - (float(off.var(ddof=1)) - noise) / variance


def say(line: str) -> None:
    """Write a line to stdout at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def root(square: float) -> float:
    """The square root; 0 of an estimate below 0."""
    return max(square, 0.0) ** 0.5


def opened(line: Pipeline) -> Store:
    """The store of a configuration."""
    settings = line.settings
    root = Path(settings.output_dir).expanduser() / name_of(settings.task)
    return Store(root, settings.runtime, Alone(), Stopper(None), Command("precompute-values"), {})


def responses_to(line: Pipeline, store: Store, chosen: np.ndarray, samples: int) -> list[list[str]]:
    """Samples of π_ref for some unique training prompts."""
    for needed in (line.examples, line.reference):
        store.ensure(needed)
    with tempfile.TemporaryDirectory() as scratch:
        job = Job(Path(scratch), store, store.runtime, store.world, Log(muted=True), store.stopper)
        model, task = line.reference.load(job), line.settings.task
    examples = ExampleTable(store.path(line.examples) / "train")
    decoding = Sample(samples=samples, seed=SEED, top_p=0.95, temperature=1.0, repetition_penalty=1.0)
    rows = [int(row) for row in examples.groups[1][chosen] for _ in range(samples)]
    names = [name for prompt in chosen for name in decoding.names(examples.prompt_names[prompt])]
    found = respond(
        model, load_tokenizer(store.path(line.tokenizer)), [examples.prompt_ids(row) for row in rows], names, decoding,
        stream="0", max_tokens=task.max_response_tokens, stop=task.stop, batch_tokens=store.runtime.scoring_batch_tokens,
    )  # fmt: skip
    texts = [response.text for response in found]
    return [texts[i : i + samples] for i in range(0, len(texts), samples)]


def truth_of(line: Pipeline, store: Store, prompts: int, samples: int, file: Path | None) -> Truth:
    """The rewards of samples for an even choice of training prompts; the samples are kept in a file, if one is named."""
    store.ensure(line.rewards())
    examples = ExampleTable(store.path(line.examples) / "train")
    count = len(examples.prompt_names)
    chosen = np.unique(np.linspace(0, count - 1, min(prompts, count)).round().astype(int))
    texts = json.loads(file.read_text()) if file and file.exists() else responses_to(line, store, chosen, samples)
    if file and not file.exists():
        file.write_text(json.dumps(texts))
    given = examples.at(examples.groups[1][chosen]).to_pylist()
    rows = [
        Row.of(line.settings.task, f"{row['group']}-{number}", row["group"], row["prompt"], text, None, row["turns"])
        for row, found in zip(given, texts, strict=True)
        for number, text in enumerate(found)
    ]
    with tempfile.TemporaryDirectory() as scratch:
        scorer = line.scored_by.scorer(Job(Path(scratch), store, store.runtime, store.world, Log(muted=True), store.stopper))
    return Truth(chosen, checked_scores(line.settings.reward, scorer, rows).reshape(len(chosen), -1))


def measure(overrides: Sequence[str], methods: Sequence[str], prompts: int, samples: int, file: Path | None) -> None:
    """Build the values of each method, and print how much of the truth they explain."""
    line = Pipeline(compose(*overrides))
    store = opened(line)
    truth = truth_of(line, store, prompts, samples, file)
    first = ExampleTable(store.path(line.examples) / "train").groups[1][truth.prompts]
    everyone, random = np.arange(len(first)), np.random.default_rng(0)
    resamples = [random.integers(0, len(first), len(first)) for _ in range(RESAMPLES)]
    variance, noise = truth.variance(everyone)
    low, high = (root(end) for end in np.percentile([truth.variance(chosen)[0] for chosen in resamples], [2.5, 97.5]))
    say(
        f"{name_of(line.settings.reward)}, {len(first)} prompts, {truth.rewards.shape[1]} samples each: mean "
        f"{truth.rewards.mean():.4f}, standard deviation of V {root(variance):.4f} [{low:.4f}, {high:.4f}], of the truth's noise "
        f"{root(noise):.4f}" + ("" if low else ": no more than noise, so that the shares below say nothing")
    )
    say(f"{'':42} {'error':>7} {'share explained':>21} {'up to a constant':>21} {'mean of V':>9}")
    for method in methods:
        values = load_values(store.ensure(Pipeline(compose(*overrides, *method.split())).values), "train")[first]
        found = truth.explained(values, everyone)
        ends = np.percentile([truth.explained(values, chosen) for chosen in resamples], [2.5, 97.5], axis=0)
        _, *cells = (f"{share:.2f} [{low:.2f}, {high:.2f}]" for share, low, high in zip(found, *ends, strict=True))
        say(f"{method:42} {root(found[0]):7.4f} {cells[0]:>21} {cells[1]:>21} {values.mean():9.4f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="as on the command line of aloll")
    parser.add_argument("--prompts", type=int, default=250)
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--truth", type=Path, help="JSON file that keeps the samples")
    parser.add_argument("--methods", nargs="*", default=METHODS, help="each the overrides of one choice of values")
    given = parser.parse_args()
    measure(given.overrides, given.methods, given.prompts, given.samples, given.truth)


if __name__ == "__main__":
    main()
