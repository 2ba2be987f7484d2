"""Neural rewards that are fine-tuned on stored rewards (rewards/finetuned.py)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from aloll_cli.artifacts.data import Data
from aloll_cli.artifacts.fitted_reward import MOST_FITTED, rows_to_fit
from aloll_cli.artifacts.policy_source import trainable_parameters
from aloll_cli.artifacts.tokenizer import Tokenizer
from aloll_cli.errors import UserError
from aloll_cli.files import write_json
from aloll_cli.models.base import Numbers, Placement
from aloll_cli.models.pretrained import Pretrained
from aloll_cli.rewards.base import Row, reading
from aloll_cli.rewards.column import stored_reward
from aloll_cli.rewards.finetuned import MODEL, SCALE, Finetuned
from aloll_cli.rewards.ratings import check_variation, share, with_reward
from aloll_cli.rewards.reading import cuts_in_words
from aloll_cli.rewards.skill import in_words
from aloll_cli.runtime.determinism import use_deterministic_algorithms
from aloll_cli.schema import identity
from aloll_cli.store.outside import unchanged
from aloll_cli.store.store import Artifact, Job
from aloll_cli.training.sampling import Draws

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from aloll_cli.arrays import FloatArray, IntArray
    from aloll_cli.training.reward_loop import RatedTexts

FEWEST = 20  # prompts to fit on
HELD_OUT = 0.1  # share of them that only chooses the checkpoint
SAMPLE = 1_000  # rows that were fitted on, for the skill on them


@dataclass(frozen=True)
class Ratings:
    """N rows of the chosen prompts and their stored rewards.

    Attributes:
        rows: the rows.
        stored: (N,) their stored rewards.
        units: the rows of each unit that is trained on.
        held_out: the rows of each unit that chooses the checkpoint.
    """

    rows: list[Row]
    stored: FloatArray
    units: list[IntArray]
    held_out: list[IntArray]

    @classmethod
    def of(cls, reward: Finetuned, train: Sequence[Row]) -> Ratings:
        """Raises UserError where there is too little to learn from."""
        rows = reward.prompts.of(train)
        stored = ratings(rows)
        reward.fitted_to.check(rows, stored)
        units = reward.fitted_to.units(rows, stored)
        prompts = sorted({rows[unit[0]].group for unit in units}, key=lambda group: share(group, 1))
        if len(prompts) < FEWEST:
            what = f"reward=finetuned has too few prompts to learn from: {len(prompts)}, and needs {FEWEST}."
            raise UserError(what, "reward.prompts=all, or more data")
        chosen = set(prompts[: round(HELD_OUT * len(prompts))])
        parts = [[unit for unit in units if (rows[unit[0]].group in chosen) is wanted] for wanted in (False, True)]
        check_variation(stored[np.concatenate(parts[0])], "reward=finetuned")
        return cls(rows, stored, *parts)


class FinetunedReward(Artifact):
    """``model/``, scale.json, checkpoints/, metrics.jsonl, evaluations.jsonl; quality on the validation split (skill.json)."""

    kind, stage = "fitted-reward", "score-rewards"
    version = 3  # text becomes no control token of a Unigram vocabulary, nor one that the template writes around turns

    def __init__(self, reward: Finetuned, data: Data) -> None:
        self.reward, self.data = reward, data
        self.name = reward.label
        self.tokenizer = Tokenizer(reward.body, data) if reward.body.from_scratch else None

    def identity(self) -> dict[str, Any]:
        found = {
            "reward": identity(self.reward),
            "content": self.content,
            "held_out": HELD_OUT,
            "most_rows": MOST_FITTED,
        }
        return found | reading(self.reward)

    @cached_property
    def content(self) -> dict[str, Any]:
        """The content of the model's files in the recipe."""
        return self.reward.content()

    def inputs(self) -> dict[str, Artifact]:
        return {"data": self.data} | ({"tokenizer": self.tokenizer} if self.tokenizer else {})

    def make(self, job: Job) -> None:
        with self.data.naming_columns():
            train, validation = (with_reward(rows_to_fit(job, self.data, split), split) for split in ("train", "validation"))
            self.reward.fitted_to.check_each(validation)
            found = Ratings.of(self.reward, train)
        self._train(job, found)
        job.world.on_main(lambda: self._measure(job, found, validation))

    def _train(self, job: Job, found: Ratings) -> None:
        from aloll_cli.models.dropout import draws_attention
        from aloll_cli.models.text_scores import TextScores, padding_id, positions, save, to_train
        from aloll_cli.training.reward_loop import RewardTrainer

        reward = self.reward
        if reward.batch_size < job.world.size:
            what = f"reward.batch_size={reward.batch_size} is less than processes={job.world.size}: some would have no responses."
            raise UserError(what, "processes=1")
        if job.runtime.deterministic:
            use_deterministic_algorithms()
        numbers = Numbers(reward.body.dtype, reward.adapter is None, job.runtime.attn)
        place = Placement(job.world.device, numbers.of_weights, job.runtime.attn)
        with unchanged(reward.read_from, self.content, reward.content):
            tokenizer = self._tokenizer(job)
            model = to_train(reward.body, reward.adapter, tokenizer, reward.seed, place)
        reward.check_context(positions(model))
        if draws_attention(model):
            model.set_attn_implementation("eager")  # no other draws the dropout of attention weights by row
        job.log.say(f"  {trainable_parameters(model)}")
        texts = self._texts(job, found, tokenizer)
        draws = Draws(batch_size=reward.batch_size, seed=reward.seed, updates=None, epochs=reward.epochs)
        steps = draws.steps(len(texts.units))
        if warning := reward.optimizer.doubt(steps):
            job.log.warn(f"reward.{warning}")
        RewardTrainer(
            job=job,
            label=reward.label,
            module=TextScores(model, job.runtime.gradient_checkpointing),
            numbers=numbers,
            objective=reward.fitted_to,
            texts=texts,
            padding=lambda rows: padding_id(model, tokenizer, rows),
            optimizer_options=reward.optimizer,
            batch_size=reward.batch_size,
            steps=steps,
            eval_every=reward.eval_every,
            seed=reward.seed,
            save=lambda folder: save(model, tokenizer, folder),
            result=MODEL,
        ).run()

    def _tokenizer(self, job: Job) -> PreTrainedTokenizerBase:
        if self.tokenizer is not None:
            return self.tokenizer.load(job)
        assert isinstance(self.reward.body, Pretrained)
        return self.reward.body.text_tokenizer()

    def _texts(self, job: Job, found: Ratings, tokenizer: PreTrainedTokenizerBase) -> RatedTexts:
        """The ratings as tokens and targets; the scale is written down."""
        from aloll_cli.training.reward_loop import RatedTexts

        ids, cut = self.reward.reader(tokenizer).read(found.rows)
        shift, scale = self.reward.fitted_to.scale(found.stored[np.concatenate(found.units)])
        if job.world.is_main:
            write_json(job.directory / SCALE, {"shift": shift, "scale": scale})
        fitted, held_out = (len(np.concatenate(units)) for units in (found.units, found.held_out))
        job.log.say(f"  fitted to {fitted:,} responses; {held_out:,} to other prompts choose the checkpoint")
        job.log.say(f"  {cuts_in_words(cut)}")
        tokens = [np.array(row) for row in ids]
        return RatedTexts(tokens, (found.stored - shift) / scale, found.units, found.held_out)

    def _measure(self, job: Job, found: Ratings, validation: list[Row]) -> None:
        scorer = self.reward.raw().scorer(job.directory)
        fitted = np.concatenate(found.units)
        sample = sorted((found.rows[i] for i in fitted), key=lambda row: share(row.group, 2))[:SAMPLE]  # prompts at random
        seen, skill = (self.reward.fitted_to.skill(scorer.score(rows), rows, ratings(rows)) for rows in (sample, validation))
        seen["fitted_rows"] = seen.pop("held_out_rows")
        job.log.say(f"  quality on prompts that it was fitted on: {in_words(seen)}")
        job.log.say(f"  quality on held-out prompts: {in_words(skill)}")
        write_json(job.directory / "skill.json", {"rows": len(fitted)} | skill)


def ratings(rows: Sequence[Row]) -> FloatArray:
    """(N,) stored rewards of N rows."""
    return np.array([stored_reward(row) for row in rows], dtype=np.float64)
