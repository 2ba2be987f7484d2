import re
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from tiny import VOCABULARY, composed, llama, outspoken, reviews, some_slow, store, tokenizer, write_rows
from transformers import TopPLogitsWarper

from aloll_cli.artifacts.generations import Generations, load_generations
from aloll_cli.artifacts.pipeline import Pipeline
from aloll_cli.artifacts.policy_source import LoadedPolicy
from aloll_cli.artifacts.rewards import load_rewards
from aloll_cli.artifacts.values import load_values
from aloll_cli.models import inverse_cdf
from aloll_cli.models.decoding import Beam, Greedy, Sample
from aloll_cli.models.generation import respond
from aloll_cli.models.inverse_cdf import InverseCdf
from aloll_cli.models.pretrained import end_tokens, with_plain_decoding
from aloll_cli.text.examples import ExampleTable

LENGTHS = (5, 2, 9, 1, 7, 3)
NAMES = [f"prompt-{i}" for i in range(len(LENGTHS))]
PLAIN = {"repetition_penalty": 1.0}
SAMPLE = Sample(samples=1, seed=1, top_p=0.95, temperature=1.0, **PLAIN)
NO_PADDING = torch.zeros(1, dtype=torch.long)


@pytest.fixture(scope="module")
def model():
    return llama()


@pytest.fixture(scope="module")
def prompts():
    random = np.random.default_rng(0)
    return [random.integers(3, VOCABULARY, length) for length in LENGTHS]


def answers(model, prompts, names=NAMES, generation=SAMPLE, stream="0", max_tokens=12, stop=(), batch_tokens=150):
    limits = {"max_tokens": max_tokens, "batch_tokens": batch_tokens}
    return respond(model, tokenizer(), prompts, names, generation, stream=stream, stop=list(stop), **limits)


def taken(generation, probabilities, count, stream="0"):
    """The token that each of many rows takes from one distribution."""
    scores = torch.tensor(probabilities).log().expand(count, -1).clone()
    processors = generation.processors([f"row-{i}" for i in range(count)], stream, NO_PADDING)
    return processors(torch.zeros(count, 1, dtype=torch.long), scores).argmax(dim=-1).numpy()


def test_a_row_is_sampled_alike_alone_in_any_batch_and_in_any_order(model, prompts):
    together = answers(model, prompts)
    assert len({r.text for r in together}) == len(prompts)
    assert answers(model, prompts, batch_tokens=1) == together
    assert answers(model, prompts, batch_tokens=84) == together
    assert answers(model, prompts[::-1], NAMES[::-1])[::-1] == together
    assert answers(model, prompts[2:4], NAMES[2:4]) == together[2:4]


def test_a_row_depends_on_the_seed_the_stream_and_its_name(model, prompts):
    first = answers(model, prompts)
    others = [
        answers(model, prompts, stream="1"),
        answers(model, prompts, generation=replace(SAMPLE, seed=2)),
        answers(model, prompts, [f"{name}!" for name in NAMES]),
    ]
    for other in others:
        assert sum(a != b for a, b in zip(first, other, strict=True)) >= 5
    assert answers(model, prompts) == first


def test_two_policies_answer_a_prompt_with_the_same_numbers(model, prompts):
    with torch.no_grad():
        near = llama()
        for parameter in near.parameters():
            parameter.add_(1e-4 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    mine, theirs = (answers(policy, prompts, max_tokens=4) for policy in (model, near))
    assert sum(a.text == b.text for a, b in zip(mine, theirs, strict=True)) >= 5


@pytest.mark.parametrize(
    ("generation", "options"),
    [
        (Greedy(**PLAIN), {}),
        (Greedy(repetition_penalty=1.7), {"repetition_penalty": 1.7}),
        (Beam(beams=3, **PLAIN), {"num_beams": 3}),
        (Beam(beams=2, repetition_penalty=2.5), {"num_beams": 2, "repetition_penalty": 2.5}),
    ],
)
def test_a_padded_batch_is_decoded_as_the_library_decodes_each_prompt_alone(model, prompts, generation, options):
    prompts = [prompt % 7 + 3 for prompt in prompts]  # few different tokens: most repeat
    found = answers(model, prompts, generation=generation, batch_tokens=1000)
    for response, prompt in zip(found, prompts, strict=True):
        with torch.no_grad():
            ids = model.generate(torch.tensor(prompt)[None], do_sample=False, max_new_tokens=12, pad_token_id=0, **options)
        assert response.text == tokenizer().decode(ids[0, len(prompt) :], skip_special_tokens=True)
    if options:
        assert found != answers(model, prompts, generation=Greedy(**PLAIN), batch_tokens=1000)


def test_a_penalty_falls_on_what_stands_in_prompt_or_response_and_not_on_padding():
    ids = torch.tensor([[0, 3, 4], [3, 4, 5]])
    processors = Greedy(repetition_penalty=2.0).processors(["a", "b"], "0", torch.tensor([1, 0]))
    scores = processors(ids, torch.tensor([[1.0, 1.0, 1.0, -1.0, 4.0, 1.0]] * 2))
    assert scores.tolist() == [[1.0, 1.0, 1.0, -2.0, 2.0, 1.0], [1.0, 1.0, 1.0, -2.0, 2.0, 0.5]]


def test_a_sampled_row_with_a_penalty_does_not_depend_on_its_batch(model, prompts):
    penalised = replace(SAMPLE, repetition_penalty=1.5)
    together = answers(model, prompts, generation=penalised)
    assert together != answers(model, prompts)
    assert answers(model, prompts, generation=penalised, batch_tokens=1) == together


def test_every_token_that_the_model_was_published_with_ends_a_response(model, prompts):
    whole = answers(model, prompts, generation=Greedy(**PLAIN))
    alone = model.generate(torch.tensor(prompts[0])[None], do_sample=False, max_new_tokens=12)[0, len(prompts[0]) :].tolist()
    published = llama()
    published.generation_config.eos_token_id = [2, alone[4]]
    first = answers(published, prompts, generation=Greedy(**PLAIN))[0]
    assert (first.tokens, first.ended) == (alone.index(alone[4]), True)
    assert first.text == tokenizer().decode(alone[: first.tokens])
    assert whole[0].tokens == 12
    assert end_tokens(with_plain_decoding(published, tokenizer()), tokenizer()) == [2, alone[4]]


def test_greedy_takes_the_likeliest_token_and_cold_sampling_does_nearly(model, prompts):
    cold = replace(SAMPLE, top_p=1.0, temperature=1e-3)
    assert answers(model, prompts, generation=cold) == answers(model, prompts, generation=Greedy(**PLAIN))


@pytest.mark.parametrize(("temperature", "top_p"), some_slow([(1.0, 1.0), (0.5, 1.0), (2.0, 1.0), (1.0, 0.75)]))
def test_sampled_frequencies_are_those_of_the_softmax(temperature, top_p):
    given = np.array([0.05, 0.3, 0.5, 0.15])
    expected = given ** (1 / temperature)
    if top_p < 1:
        expected = np.where(given >= 0.3, given, 0)  # 0.5 + 0.3 passes 0.75
    count = 20_000
    found = np.bincount(taken(replace(SAMPLE, seed=3, top_p=top_p, temperature=temperature), given, count), minlength=4) / count
    np.testing.assert_allclose(found, expected / expected.sum(), atol=0.012)


@pytest.mark.parametrize("top_p", [0.3, 0.9, 1.0])
def test_what_is_ranked_at_first_changes_no_draw(monkeypatch, top_p):
    scores = torch.randn(400, 50, generator=torch.Generator().manual_seed(0))
    names = [f"row-{i}" for i in range(len(scores))]

    def drawn(ranked, scores):
        monkeypatch.setattr(inverse_cdf, "RANKED", ranked)
        return InverseCdf(1, "0", names, top_p)(torch.zeros(400, 1, dtype=torch.long), scores).argmax(dim=-1)

    for given in (scores, scores.bfloat16().float()):  # of these many are equal
        every = drawn(50, given)
        assert all(torch.equal(drawn(ranked, given), every) for ranked in (1, 2, 7, 30))
    kept = TopPLogitsWarper(top_p)(None, scores) if top_p < 1 else scores
    assert (kept.gather(1, drawn(50, scores)[:, None]) > -torch.inf).all()


def test_top_p_leaves_the_tail_out():
    given = [0.05, 0.3, 0.5, 0.15]
    assert set(taken(replace(SAMPLE, top_p=0.75), given, 4000)) == {1, 2}
    assert set(taken(replace(SAMPLE, top_p=0.4), given, 4000)) == {2}
    assert set(taken(replace(SAMPLE, top_p=1.0), given, 4000)) == {0, 1, 2, 3}


def test_each_token_of_a_row_has_a_number_of_its_own():
    processors = replace(SAMPLE, top_p=1.0).processors([f"row-{i}" for i in range(2000)], "0", NO_PADDING)
    scores, so_far = torch.zeros(2000, 2), torch.zeros(2000, 1, dtype=torch.long)
    first, second = (processors(so_far, scores.clone()).argmax(dim=-1) for _ in range(2))
    assert (first == second).float().mean().item() == pytest.approx(0.5, abs=0.05)


def test_the_text_ends_before_the_stop_string(model, prompts):
    whole = answers(model, prompts)
    stop = "a"
    assert 0 < sum(stop in response.text for response in whole) < len(whole)
    found = answers(model, prompts, stop=[stop])
    for before, after in zip(whole, found, strict=True):
        assert after.text == before.text.split(stop)[0]
        assert after.ended is (before.ended or stop in before.text)
        assert (after.tokens < before.tokens) or stop not in before.text[:-1]
        # the tokens that were given, the stop string's included, and none of those behind it
        assert after.ids == before.ids[: len(after.ids)]
        assert (stop in tokenizer().decode(after.ids)) == (stop in before.text)
        assert stop not in tokenizer().decode(after.ids[:-1])


def test_the_first_of_several_stop_strings_ends_the_text(model, prompts):
    whole = answers(model, prompts)
    found = answers(model, prompts, stop=["e", "zzz", "a"])
    assert [after.text for after in found] == [re.split("[ea]", before.text)[0] for before in whole]


def test_nothing_is_generated_behind_a_stop_string(model, prompts):
    whole = answers(model, prompts[:1], NAMES[:1])[0]
    stop = whole.text[2:5]
    calls = []
    watched = llama()
    watched.model.register_forward_hook(lambda *_: calls.append(1))
    after = answers(watched, prompts[:1], NAMES[:1], stop=[stop])[0]
    assert after.text == whole.text[: whole.text.index(stop)]
    assert len(calls) == after.tokens < whole.tokens == 12


def test_a_stop_string_that_begins_in_the_prompt_stops_nothing(model, prompts):
    whole = answers(model, prompts[:1], NAMES[:1])[0]
    prompt_end = tokenizer().decode(prompts[0][-1:])
    assert answers(model, prompts[:1], NAMES[:1], stop=[prompt_end + whole.text[:2]])[0] == whole


def test_how_many_tokens_a_stopped_response_has_does_not_depend_on_its_batch(model, prompts):
    together = answers(model, prompts, stop=["a"])
    assert len({response.tokens for response in together}) > 2
    assert answers(model, prompts, stop=["a"], batch_tokens=1) == together
    beams = Beam(beams=2, repetition_penalty=2.5)
    assert answers(model, prompts, generation=beams, stop=["e"], batch_tokens=1) == answers(
        model, prompts, generation=beams, stop=["e"], batch_tokens=1000
    )


def test_a_response_has_ended_where_the_model_gave_eos_within_the_limit(model, prompts):
    uniform = llama()
    with torch.no_grad():
        uniform.model.norm.weight.zero_()  # every token is as likely as any other
    names = [f"row-{i}" for i in range(128)]
    sampled = replace(SAMPLE, top_p=1.0)
    found = answers(uniform, [prompts[0]] * 128, names, sampled, max_tokens=40, batch_tokens=128 * 45)
    ended = [response for response in found if response.ended]
    # 1 − (1 − 1/320)⁴⁰ = 0.118
    assert 5 < len(ended) < 27
    assert all(response.tokens < 40 for response in ended)
    assert all(len(response.ids) == response.tokens + 1 and response.ids[-1] == 2 for response in ended)
    assert all(response.tokens == len(response.ids) == 40 for response in found if not response.ended)


def test_control_tokens_are_no_part_of_the_text(model, prompts):
    silent = llama()
    with torch.no_grad():
        silent.model.norm.weight.zero_()  # greedy takes id 0, the padding token
    response = answers(silent, prompts[:1], NAMES[:1], Greedy(**PLAIN), max_tokens=3)[0]
    assert (response.text, response.tokens, response.ended) == ("", 3, False)


def test_batches_are_filled_by_tokens_with_the_longest_prompts_first(model, prompts):
    counts = []
    respond(model, tokenizer(), prompts, NAMES, SAMPLE, stream="0", max_tokens=3, stop=[], batch_tokens=24, advance=counts.append)
    # with 3 new tokens the prompts take 12 10 | 8 6 5 | 4: two of 12, three of 8
    assert counts == [2, 3, 1]


def line_of(folder, *overrides):
    sizes = ("model.hidden_size=32", "model.layers=1", "model.heads=2", "model.intermediate_size=32", "model.vocab_size=300")
    settings = composed(f"task.path={folder}", *sizes, *overrides)
    line = Pipeline(settings)
    return line, LoadedPolicy(settings.model, line.tokenizer, seed=1)


def test_the_first_sample_of_a_prompt_is_its_only_one_and_the_others_differ(tmp_path):
    line, policy = line_of(reviews(tmp_path / "rows"), "task.max_response_tokens=6")
    opened = store(tmp_path / "out")
    one, three = (
        load_generations(opened.ensure(Generations(policy, line.examples, "validation", replace(SAMPLE, samples=k))))
        for k in (1, 3)
    )
    names = one.column("id").to_pylist()
    assert one.column("group").to_pylist() == names
    assert three.column("id").to_pylist() == [id for name in names for id in (name, f"{name}-2", f"{name}-3")]
    assert three.column("group").to_pylist() == [name for name in names for _ in range(3)]
    texts = three.column("response").to_pylist()
    assert texts[::3] == one.column("response").to_pylist()
    assert len(set(texts)) == 12


@pytest.mark.slow
def test_a_monte_carlo_value_is_the_mean_of_the_stored_rewards_of_its_samples(tmp_path):
    rows = reviews(tmp_path / "rows")
    twice = [{"prompt": f"Place {i // 2}:", "response": f"It was good {i} times."} for i in range(6)]
    write_rows(rows / "train.jsonl", twice)
    line = Pipeline(
        composed(
            "model=pretrained", f"model.path={outspoken(tmp_path / 'model')}", "reference=pretrained", f"task.path={rows}",
            "task.max_response_tokens=4", "values=monte_carlo", "values.samples=3",
        )
    )  # fmt: skip
    opened = store(tmp_path / "out")
    values = load_values(opened.ensure(line.values), "train")
    samples = load_generations(opened.path(line.samples))
    rewards = load_rewards(opened.path(line.values.samples))
    assert samples.num_rows == len(rewards) == 9
    assert len(set(rewards)) > 3
    expected = [rewards[3 * i : 3 * i + 3].mean() for i in (0, 0, 1, 1, 2, 2)]
    assert values.tolist() == pytest.approx(expected)
    evaluated = Generations(line.reference, line.examples, "train", line.settings.generation)
    assert evaluated.fingerprint != line.samples.fingerprint


def test_prompts_are_answered_by_length_and_the_answers_stand_in_the_prompts_order(tmp_path):
    line, policy = line_of(reviews(tmp_path / "rows", train=300), "task.max_response_tokens=2")
    opened = store(tmp_path / "out")
    folder = opened.ensure(Generations(policy, line.examples, "train", line.settings.generation))
    examples = ExampleTable(opened.path(line.examples) / "train")
    assert (
        load_generations(folder).column("id").to_pylist()
        == examples.at(range(len(examples)), ["group"]).column("group").to_pylist()
    )
    blocks = [pq.read_table(part) for part in sorted((folder / "responses").glob("*.parquet"))]
    assert [block.num_rows for block in blocks] == [256, 44]
    lengths = [[len(examples.prompt_ids(i)) for i in block.column("place").to_pylist()] for block in blocks]
    assert sum(lengths, []) == sorted(sum(lengths, []), reverse=True)
    assert lengths[0][0] > lengths[1][-1]
