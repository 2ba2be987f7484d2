"""The evaluation of a policy and its reference: metrics.json, and all responses with their rewards (answers.jsonl)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from aloll_cli.artifacts.data import Data
from aloll_cli.artifacts.generation_logps import GenerationLogps, load_generation_logps
from aloll_cli.artifacts.generations import Generations, load_generations
from aloll_cli.artifacts.likelihoods import Likelihoods, load_likelihoods
from aloll_cli.artifacts.logged_prompts import LoggedPrompts, logged, words_of
from aloll_cli.artifacts.raw_table import load_data
from aloll_cli.artifacts.response_weights import ResponseWeights
from aloll_cli.artifacts.rewards import Rewards, load_components, load_rewards, table_rows
from aloll_cli.errors import UserError
from aloll_cli.files import write_json
from aloll_cli.settings.choices import References, Words
from aloll_cli.store.store import Artifact, Job
from aloll_cli.text.examples import ExampleTable

if TYPE_CHECKING:
    from aloll_cli.arrays import FloatArray
    from aloll_cli.metrics.words import TextTokenizer


WHY = {
    "gain": "the reward cannot score new text; reward=fitted can",
    "held_out_gain": "no second reward was named: test_reward=…",
}
METHOD = "paired bootstrap over prompts"
EQUAL = "all prompts have the same difference in length, so that its effect is unknown"
UNREAD = "rouge-score's tokenizer keeps a to z and digits only, and no logged response has any; words=auto"
GAINS = {"gain": "reward", "held_out_gain": "test_reward"}  # keys in metrics.json, and the role of their reward


class Side:
    """One of the two policies: its responses, their rewards by role, and their log-probs under itself and under π_ref."""

    def __init__(
        self,
        generations: Generations,
        rewards: dict[str, Rewards],
        likelihoods: Likelihoods,
        under_itself: GenerationLogps,
        under_reference: GenerationLogps,
    ) -> None:
        self.generations, self.rewards, self.likelihoods = generations, rewards, likelihoods
        self.under_itself, self.under_reference = under_itself, under_reference

    def inputs(self, prefix: str) -> dict[str, Artifact]:
        inputs: dict[str, Artifact] = {f"{prefix}_answers": self.generations}
        inputs |= {f"{prefix}_{role}": rewards for role, rewards in self.rewards.items()}
        inputs |= {f"{prefix}_under_itself": self.under_itself, f"{prefix}_under_reference": self.under_reference}
        return inputs | {f"{prefix}_likelihoods": self.likelihoods}


class Metrics(Artifact):
    """The result of ``aloll evaluate``."""

    kind, stage = "metrics", "evaluate"
    version = 6  # distinct-n per word counts no empty word for the space between prompt and response
    resumes = False

    def __init__(
        self,
        about: dict[str, Any],
        data: Data,
        policy: Side,
        reference: Side,
        weights: ResponseWeights | None,
        references: References,
        words: Words,
        resamples: int,
    ) -> None:
        """Compare two sides.

        Args:
            about: task, variant, seed, split, reward and test_reward, copied to metrics.json.
            data: the raw rows, for logged responses, knowledge and subsets.
            policy, reference: the two sides; the roles of their rewards are "reward" and "test_reward".
            weights: A⁺ of the split's logged responses, for rewards that cannot score text.
            references: which logged responses generated ones are compared with.
            words: what counts as a word.
            resamples: number of bootstrap resamples.
        """
        self.about, self.data, self.policy, self.reference, self.weights = about, data, policy, reference, weights
        self.references, self.words, self.resamples = references, words, resamples
        self.name = f"{about['variant']}-s{about['seed']}-{about['split']}"

    def identity(self) -> dict[str, Any]:
        return self.about | {"references": self.references.name, "words": self.words.name, "resamples": self.resamples}

    def inputs(self) -> dict[str, Artifact]:
        weights = self.weights.inputs() if self.weights else {}
        return self.policy.inputs("policy") | self.reference.inputs("reference") | weights | {"data": self.data}

    def make(self, job: Job) -> None:
        job.world.on_main(lambda: self._save(job))

    def _save(self, job: Job) -> None:
        metrics, rows = self._compare(job)
        write_json(job.directory / "metrics.json", metrics)
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (job.directory / "answers.jsonl").write_text("".join(lines), encoding="utf-8")

    def _compare(self, job: Job) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        import numpy as np

        from aloll_cli.metrics.intervals import by_prompt, mean_with_interval
        from aloll_cli.metrics.text import lengths, matched_distinct, text_figures

        sides = {"policy": self.policy, "reference": self.reference}
        tables = {name: load_generations(job.path(side.generations)) for name, side in sides.items()}
        task = self.policy.generations.examples.task
        read = {name: table_rows(table, task, 0, table.num_rows) for name, table in tables.items()}
        texts = {name: [row.response for row in rows] for name, rows in read.items()}
        prompts = tables["policy"].column("prompt").to_pylist()
        if not tables["policy"].column("id").equals(tables["reference"].column("id")):
            raise UserError(
                "the policy's tokenizer drops other prompts as too long than the reference's tokenizer.", "task.truncated=keep"
            )
        scores = {
            name: {role: load_rewards(job.path(rewards)) for role, rewards in side.rewards.items()}
            for name, side in sides.items()
        }
        # intervals are over prompts, because the samples of one prompt are not independent
        samples = self.policy.generations.generation.samples_per_prompt
        means = {name: {role: by_prompt(values, samples) for role, values in of_side.items()} for name, of_side in scores.items()}
        groups = tables["policy"].column("group").to_pylist()[::samples]
        tokenizer, words = words_of(job.path(self.data), self.words)
        known = logged(load_data(job.path(self.data), self.about["split"]), groups, self.references)
        metrics: dict[str, Any] = {
            **self.about,
            "n": len(groups),
            "samples": samples,
            "references": self.references.name,
            "words": words,
        }
        if stopped := self.policy.generations.policy.stopped_early(job):
            metrics["stopped_early"] = stopped
        for name, other in (("policy", "reference"), ("reference", "policy")):
            metrics[name] = {role: mean_with_interval(values, self.resamples) for role, values in means[name].items()}
            metrics[name] |= text_figures(texts[name], self.resamples, samples, tokenizer)
            metrics[name] |= matched_distinct(texts[name], texts[other], tokenizer)
            metrics[name]["ended"] = float(tables[name].column("ended").to_numpy(zero_copy_only=False).mean())
            metrics[name] |= self._overlap(known, texts[name], tokenizer) | self._distance(sides[name], job)
        metrics |= self._logged(job) | self._gains(means)
        metrics |= {f"{key}_why": why for key, why in WHY.items() if metrics[key] is None}
        longer = lengths(texts["policy"], tokenizer) - lengths(texts["reference"], tokenizer)
        metrics |= self._length_controlled(means, by_prompt(longer, samples))
        if (unread := np.mean([not tokenizer.read_by_rouge(text) for texts in known.references for text in texts])) > 0:
            metrics["rouge_why" if unread == 1 else "rouge_unread"] = UNREAD if unread == 1 else float(unread)
        metrics["by"] = self._by_subset(known.subsets, means) if known.subsets else None
        metrics |= self._components(job, metrics)
        metrics["proxy_skill"] = {
            f"{role}.{part}" if part else role: skill
            for role, rewards in self.policy.rewards.items()
            for part, skill in rewards.scored_by.skills(job).items()
        } or None
        if self.weights:
            metrics["advantage_weighted_log_likelihood"] = self._likelihood(job)
        rows = [
            {
                "prompt": prompt,
                **{name: {"response": read[name][i].text, **{r: float(v[i]) for r, v in scores[name].items()}} for name in sides},
            }
            for i, prompt in enumerate(prompts)
        ]  # fmt: skip
        return metrics, rows

    def _components(self, job: Job, metrics: dict[str, Any]) -> dict[str, Any]:
        """The mean of each unweighted component of the reward on both sides, and their differences."""
        from aloll_cli.metrics.intervals import by_prompt, mean_with_interval

        found: dict[str, dict[str, FloatArray]] = {}
        for name, side in (("policy", self.policy), ("reference", self.reference)):
            if "reward" in side.rewards:
                rewards, samples = side.rewards["reward"], side.generations.generation.samples_per_prompt
                scores = load_components(job.path(rewards), rewards.scored_by.components())
                found[name] = {part: by_prompt(values, samples) for part, values in scores.items()}
                figures = {part: mean_with_interval(values, self.resamples) for part, values in found[name].items()}
                metrics[name]["components"] = figures
        if not found:
            return {"component_gains": None}
        policy, reference = found["policy"], found["reference"]
        return {"component_gains": {part: self._gain(policy[part] - reference[part]) for part in policy}}

    def _overlap(self, known: LoggedPrompts, texts: list[str], tokenizer: TextTokenizer) -> dict[str, Any]:
        """Overlap of the responses with the logged ones to their prompts, and with the knowledge in the prompts."""
        from aloll_cli.metrics.overlap import Against, grounding

        figures = Against(texts, known.references, self.resamples, tokenizer).figures()
        return figures | grounding(texts, known.knowledge, self.resamples, tokenizer)

    def _distance(self, side: Side, job: Job) -> dict[str, Any]:
        """Perplexity under the reference and KL to it; None if the two have different vocabularies."""
        from aloll_cli.metrics.intervals import likelihood_figures

        own, under_reference = (load_generation_logps(job.path(logps)) for logps in (side.under_itself, side.under_reference))
        if own is None or under_reference is None:
            return dict.fromkeys(("perplexity", "kl", "kl_per_token"))
        return likelihood_figures(
            own[0], under_reference[0], own[1], self.resamples, side.generations.generation.samples_per_prompt
        )

    def _by_subset(self, subsets: list[str], means: dict[str, dict[str, FloatArray]]) -> dict[str, Any]:
        """Rewards of both sides and gains, by subset of the data."""
        import numpy as np

        from aloll_cli.metrics.intervals import mean_with_interval

        found: dict[str, Any] = {}
        for subset in sorted(set(subsets)):
            chosen = np.array(subsets) == subset
            within = {name: {role: values[chosen] for role, values in of_side.items()} for name, of_side in means.items()}
            sides = {
                name: {role: mean_with_interval(values, self.resamples) for role, values in of_side.items()}
                for name, of_side in within.items()
            }
            found[subset] = {"n": int(chosen.sum()), **sides, **self._gains(within)}
        return found

    def _gains(self, means: dict[str, dict[str, FloatArray]]) -> dict[str, Any]:
        """The paired difference in each role, from (G,) mean rewards per prompt by side and role; None without such a reward."""
        policy, reference = means["policy"], means["reference"]
        return {key: self._gain(policy[role] - reference[role]) if role in policy else None for key, role in GAINS.items()}

    def _gain(self, differences: FloatArray) -> dict[str, Any]:
        from aloll_cli.metrics.intervals import mean_with_interval

        return mean_with_interval(differences, self.resamples) | {"method": METHOD, "resamples": self.resamples}

    def _length_controlled(self, means: dict[str, dict[str, FloatArray]], longer: FloatArray) -> dict[str, Any]:
        """Each gain at equal length from (G,) length differences, policy minus reference; None without such a gain."""
        from aloll_cli.metrics.length_control import length_controlled

        found: dict[str, Any] = {}
        for key, role in GAINS.items():
            name, figure = f"length_controlled_{key}", None
            if role in means["policy"]:
                figure = length_controlled(means["policy"][role] - means["reference"][role], longer, self.resamples)
                found |= {f"{name}_why": EQUAL} if figure is None else {}
            found[name] = figure
        return found

    def _logged(self, job: Job) -> dict[str, Any]:
        """Nats per token and perplexity of the split's logged responses under both sides: what the policy forgot.

        The difference, policy minus reference, is paired by prompt; None if the two count tokens differently.
        """
        import numpy as np

        from aloll_cli.metrics.intervals import exponential, ratio_with_interval

        found: dict[str, Any] = {}
        sums: dict[str, FloatArray] = {}
        for name, side in (("policy", self.policy), ("reference", self.reference)):
            prompts = ExampleTable(job.path(side.likelihoods.examples) / side.likelihoods.split).groups[0]
            logps, tokens = load_likelihoods(job.path(side.likelihoods))
            sums[name], sums["tokens"] = (np.bincount(prompts, weights).astype(np.float64) for weights in (-logps, tokens))
            nats = ratio_with_interval(sums[name], sums["tokens"], self.resamples)
            found[name] = {"nats_per_token": nats, "perplexity": exponential(nats)}
        same = self.policy.likelihoods.examples.fingerprint == self.reference.likelihoods.examples.fingerprint
        difference = ratio_with_interval(sums["policy"] - sums["reference"], sums["tokens"], self.resamples) if same else None
        return {"logged_responses": found | {"difference": difference}}

    def _likelihood(self, job: Job) -> dict[str, Any]:
        """Σ A⁺ ln π / Σ A⁺ T of logged responses, and the paired difference, with a bootstrap over prompts."""
        import numpy as np

        from aloll_cli.metrics.intervals import ratio_with_interval

        assert self.weights is not None
        _, weights = self.weights.load(job)
        policy, tokens = load_likelihoods(job.path(self.policy.likelihoods))
        reference, _ = load_likelihoods(job.path(self.reference.likelihoods))
        prompts = ExampleTable(job.path(self.weights.examples) / self.weights.split).groups[0]
        sums: dict[str, FloatArray] = {
            name: np.bincount(prompts, weights=weights * values).astype(np.float64)
            for name, values in {"policy": policy, "reference": reference, "tokens": tokens}.items()
        }
        used = sums["tokens"] > 0  # other prompts have no response of positive weight
        gain = ratio_with_interval((sums["policy"] - sums["reference"])[used], sums["tokens"][used], self.resamples)
        return {
            "policy": float(sums["policy"].sum() / sums["tokens"].sum()),
            "reference": float(sums["reference"].sum() / sums["tokens"].sum()),
            "gain": gain | {"method": METHOD, "resamples": self.resamples},
        }
