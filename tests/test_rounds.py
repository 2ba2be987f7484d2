"""``rounds=``: after each round the policy is π_ref, and its responses to the training prompts join the logged ones."""

import signal
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from running import SMALL, quick
from tiny import composed, opened, outspoken, reviews
from torture import contents

from aloll_cli import UserError
from aloll_cli.artifacts.generations import PROMPTS, PromptDraw, load_generations
from aloll_cli.artifacts.pipeline import NextRound, Pipeline
from aloll_cli.artifacts.rewards import load_rewards
from aloll_cli.comparison.runs import load_run
from aloll_cli.settings.checks import check
from aloll_cli.store.inventory import entries, unused, users
from aloll_cli.store.store import upstream
from aloll_cli.store.tables import read_blocks
from aloll_cli.tasks.options import Truncated
from aloll_cli.training.sampling import philox

SHORT = [
    "reference=pretrained", "values=constant", "updates=2", "batch_size=4", "eval_every=2", "eval_prompts=2", "threads=1",
    "task.max_response_tokens=6", "task.max_prompt_tokens=48", "resamples=20", "rounds=3", "samples=2",
]  # fmt: skip
ROUNDS = ["rounds=2", "samples=1", *SMALL]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rounds")
    reviews(folder / "rows", train=8)
    outspoken(folder / "model")
    return folder


@pytest.fixture(scope="module")
def line(place):
    words = ["model=pretrained", f"model.path={place / 'model'}", f"task.path={place / 'rows'}", *SHORT]
    return Pipeline(composed(*words))


def test_each_round_starts_from_the_policy_before_and_the_last_is_compared_with_the_first_reference(line):
    second = NextRound(line)
    third = NextRound(second)
    assert line.policy.fingerprint == third.trained.fingerprint
    assert third.reference.policy.fingerprint == second.trained.fingerprint
    assert [samples.policy.policy.fingerprint for samples in third.examples.samples] == [
        line.trained.fingerprint, second.trained.fingerprint,
    ]  # fmt: skip
    assert line.metrics.reference.generations.policy.fingerprint == line.reference.fingerprint
    assert line.metrics.policy.generations.policy.fingerprint == third.trained.fingerprint
    assert line.metrics.policy.generations.examples.fingerprint == line.examples.fingerprint
    planned = [artifact.fingerprint for artifact in upstream(line.metrics)]
    assert len(planned) == len(set(planned))
    assert len(str(third.trained.recipe)) < 3 * len(str(line.trained.recipe))


@pytest.mark.slow
def test_the_pool_holds_the_policys_own_tokens_with_rewards_and_costs_count_every_round(line, place):
    store = opened(place / "outputs" / "reviews", line.settings.runtime)
    run = load_run(store.ensure(line.metrics))
    third = NextRound(NextRound(line))
    pool = read_blocks(store.path(third.examples) / "train")
    samples = [load_generations(store.path(one)) for one in third.examples.samples]
    assert len(pool) == 8 + 2 * 16
    assert len(set(pool.column("id").to_pylist())) == len(pool)
    assert pool.column("response_ids").to_pylist()[8:] == [
        ids for one in samples for ids in one.column("response_ids").to_pylist()
    ]
    assert pool.column("response").to_pylist()[8:24] == samples[0].column("response").to_pylist()
    assert pool.column("prompt").to_pylist()[8:24] == samples[0].column("prompt").to_pylist()
    assert samples[0].column("response").to_pylist() != samples[1].column("response").to_pylist()
    assert len(load_rewards(store.path(third.rewards()))) == len(pool)
    found = entries(place / "outputs")
    assert {entry.kind for entry in unused(found)} <= {"reference-logps"}  # the shared table of all rows
    assert [user.kind for user in users(found)[line.trained.fingerprint]] == ["round"]
    assert run.cost("updates") == 6
    assert run.cost("samples") == 32
    assert run.cost("sampled_tokens") == sum(sum(one.column("tokens").to_pylist()) for one in samples)


@pytest.mark.slow
def test_a_round_may_learn_from_some_prompts_drawn_anew(line, place):
    some = Pipeline(replace(line.settings, round_prompts=3))
    store = opened(place / "outputs" / "reviews", line.settings.runtime)
    third = NextRound(NextRound(some))
    pool = read_blocks(store.ensure(third.examples) / "train")
    samples = [load_generations(store.path(one)) for one in third.examples.samples]
    first, second = ({*one.column("group").to_pylist()} for one in samples)
    assert (len(first), len(second)) == (3, 3)
    assert first != second
    assert all(one.num_rows == 6 for one in samples)
    logged = read_blocks(store.path(line.examples) / "train")
    own = [group for group in logged.column("group").to_pylist() if group in second]
    both = [group for group in samples[0].column("group").to_pylist() if group in second]
    assert pool.column("group").to_pylist() == own + both + samples[1].column("group").to_pylist()
    assert [*map(len, (own, both))] == [3, 2 * len(first & second)]
    assert pool.column("response_ids").to_pylist()[-6:] == samples[1].column("response_ids").to_pylist()


@pytest.mark.slow
def test_a_rounds_responses_are_not_the_samples_that_its_values_come_from(line, place):
    # as plain and of the same seed as the policy's responses of the first round
    sampled = composed("values=soft", "values.samples=2", "values.seed=1", "variant=nll")
    second = NextRound(Pipeline(replace(line.settings, values=sampled.values, variant=sampled.variant)))
    store = opened(place / "outputs" / "reviews", line.settings.runtime)
    own, sampled = (load_generations(store.ensure(one)) for one in (second.examples.samples[0], second.samples))
    assert own.column("id").to_pylist() == sampled.column("id").to_pylist()
    pairs = zip(own.column("response_ids").to_pylist(), sampled.column("response_ids").to_pylist(), strict=True)
    assert np.mean([one == other for one, other in pairs]) < 0.2


def test_responses_that_do_not_end_are_left_out_where_logged_ones_are(line, place):
    settings = line.settings
    dropping = replace(settings, task=replace(settings.task, truncated=Truncated.drop))
    pool = NextRound(Pipeline(dropping)).examples
    assert pool.fingerprint != NextRound(line).examples.fingerprint
    assert pool.identity() == {"unfinished": "dropped"}
    assert NextRound(line).examples.identity() == {}
    job, said = SimpleNamespace(log=SimpleNamespace(say=lambda text: said.append(text))), []
    responses = pa.table({"ended": [True, False, True], "id": ["a", "b", "c"]})
    assert pool.usable(job, responses, 1).column("id").to_pylist() == ["a", "c"]
    assert said == ["  1 of 3 responses of round 1 did not end within task.max_response_tokens=6: left out"]
    assert NextRound(line).examples.usable(job, responses, 1) is responses
    with pytest.raises(UserError, match="none of the 1 responses of round 1 ended within task.max_response_tokens=6"):
        pool.usable(job, responses.slice(1, 1), 1)


def test_prompts_are_drawn_without_replacement_and_differ_by_seed_and_round():
    draws = [PromptDraw(40, seed, number).chosen(100) for seed in (1, 2) for number in (1, 2)]
    assert all(len(set(draw.tolist())) == 40 and (np.diff(draw) > 0).all() for draw in draws)
    assert len({tuple(draw.tolist()) for draw in draws}) == 4
    assert PromptDraw(40, 1, 1).chosen(7).tolist() == [*range(7)]
    # not the numbers that a step of training draws its rows with
    assert (philox(1, 1).permutation(100)[:40] != philox(1, 1, PROMPTS).permutation(100)[:40]).mean() > 0.8
    assert sorted(philox(1, 1, PROMPTS).permutation(100)[:40].tolist()) == draws[0].tolist()


def test_rounds_need_a_reward_of_new_text_and_logged_responses():
    stored = composed("rounds=2", "reward=column", "values=data")
    with pytest.raises(UserError, match="rounds=2 needs rewards of new text; reward=column has stored ones only"):
        check(stored, ["policy"])
    with pytest.raises(UserError, match="variant=rloo generates its own responses in every step"):
        check(composed("rounds=2", "variant=rloo"), ["policy"])
    with pytest.raises(UserError, match="temperature of V.x. of variant=dro is in standard deviations of the rewards, which are"):
        check(composed("rounds=2", "variant=dro", "values=soft"), ["policy"])
    for other in ("variant.per_token=true", "variant=a_star", "values=joint"):
        check(composed("rounds=2", "variant=dro", "values=soft", other), ["policy"])
    with pytest.raises(UserError, match="round_prompts=9 is for later rounds, and there is one"):
        check(composed("round_prompts=9"), ["policy"])


# in the order of making: what is written when the process dies
MOMENTS = {
    "the first policy's second checkpoint": r"/policy/seq-s1-[^r].*/\.update-0000006\.tmp$",
    "the round's policy, about to be named": r"/round/.*partial/policy\.json",
    "the responses that join": r"/generations/seq-s1-train.*/\.part-00000",
    "the pool": r"/examples/round-2-.*/train/\.part-00000",
    "the second policy's second checkpoint": r"/policy/seq-s1-round-2.*/\.update-0000006\.tmp$",
}


@pytest.mark.slow
def test_rounds_that_are_killed_end_with_the_same_bits(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
    quick(whole, "evaluate", *ROUNDS)
    for pattern in MOMENTS.values():
        quick(killed, "evaluate", *ROUNDS, die_at=pattern, code=-signal.SIGKILL)
    quick(killed, "evaluate", *ROUNDS)
    expected, found = contents(whole / "outputs"), contents(killed / "outputs")
    assert found.keys() == expected.keys()
    assert len(found) > 60
    for name in expected:
        assert found[name] == expected[name], name
