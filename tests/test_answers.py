"""What evaluate counts about answers: their tokens as given, log-probs of these, logged responses, parts of the data."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch
from tiny import composed, outspoken, reviews, store, write_rows

from aloll_cli.artifacts.data import Data
from aloll_cli.artifacts.generation_logps import GenerationLogps, load_generation_logps
from aloll_cli.artifacts.generations import Generations, GenerationTokens, load_generations
from aloll_cli.artifacts.likelihoods import load_likelihoods
from aloll_cli.artifacts.logged_prompts import logged
from aloll_cli.artifacts.pipeline import Pipeline
from aloll_cli.artifacts.policy_source import LoadedPolicy
from aloll_cli.artifacts.raw_table import load_data
from aloll_cli.artifacts.rewards import load_rewards
from aloll_cli.files import read_json
from aloll_cli.metrics.intervals import likelihood_figures
from aloll_cli.models.decoding import Sample
from aloll_cli.models.saving import load_tokenizer
from aloll_cli.settings.choices import References
from aloll_cli.tasks.base import Part, Record

SIZES = ("model.hidden_size=32", "model.layers=1", "model.heads=2", "model.intermediate_size=32")
PLAIN = Sample(samples=2, seed=1, top_p=1.0, temperature=1.0, repetition_penalty=1.0)
HHA_PARTS = ("harmless-base", "helpful-base", "helpful-online")
PARTS = (0, 1, 0, 2, 1, 0) * 4  # of the evaluated prompts


@pytest.fixture(scope="module")
def answered(tmp_path_factory):
    """Two random models, the first one's two answers to each test prompt, and the store."""
    folder = tmp_path_factory.mktemp("answered")
    options = (f"task.path={reviews(folder / 'rows')}", *SIZES, "task.max_response_tokens=8", "model.vocab_size=320")
    line = Pipeline(composed(*options, "task.stop=[e]"))
    models = [LoadedPolicy(line.settings.model, line.tokenizer, seed=seed) for seed in (1, 2)]
    answers = Generations(models[0], line.examples, "test", PLAIN)
    opened = store(folder / "out")
    opened.ensure(answers)
    return SimpleNamespace(line=line, models=models, answers=answers, store=opened, options=options)


def tokens_of(answered):
    return GenerationTokens(answered.answers, SimpleNamespace(path=answered.store.path))


@pytest.mark.slow
def test_the_tokens_of_an_answer_are_kept_as_they_were_given(answered):
    table = load_generations(answered.store.path(answered.answers))
    tokenizer = load_tokenizer(answered.store.path(answered.line.tokenizer))
    rows = table.select(["response", "response_ids", "tokens", "ended"]).to_pylist()
    texts = [tokenizer.decode(row["response_ids"], skip_special_tokens=True) for row in rows]
    assert [text.split("e")[0] for text in texts] == [row["response"] for row in rows]
    stopped = [row for row, text in zip(rows, texts, strict=True) if "e" in text]
    assert stopped
    assert all(len(row["response_ids"]) == row["tokens"] for row in stopped)
    # what a stop string cuts would be encoded as other tokens
    assert any(tokenizer(row["response"], add_special_tokens=False)["input_ids"] != row["response_ids"] for row in stopped)


@pytest.mark.slow
def test_stored_log_probs_of_answers_are_those_of_the_model(answered):
    tokens = tokens_of(answered)
    for policy in answered.models:
        artifact = GenerationLogps(policy, answered.line.tokenizer, answered.answers)
        logps, counts = load_generation_logps(answered.store.ensure(artifact))
        model = policy.load(
            SimpleNamespace(path=answered.store.path, world=SimpleNamespace(device="cpu"), runtime=composed().runtime)
        )
        for row in range(len(tokens)):
            prompt, answer = (torch.tensor(ids) for ids in (tokens.prompt_ids(row), tokens.response_ids(row)))
            with torch.no_grad():
                logits = model(torch.cat([prompt, answer])[None]).logits[0, len(prompt) - 1 : -1]
            alone = logits.log_softmax(dim=-1)[torch.arange(len(answer)), answer].sum()
            assert logps[row] == pytest.approx(float(alone), abs=1e-4)
            assert counts[row] == len(answer)


def test_the_distance_between_two_models_is_positive_and_that_of_one_to_itself_zero(answered):
    own, other = (
        load_generation_logps(answered.store.ensure(GenerationLogps(policy, answered.line.tokenizer, answered.answers)))
        for policy in answered.models
    )
    assert likelihood_figures(own[0], other[0], own[1], 50, samples=2)["kl"]["mean"] > 0.01
    assert likelihood_figures(own[0], own[0], own[1], 50, samples=2)["kl"] == {"mean": 0.0, "ci95": None}


def test_a_model_with_other_tokens_has_no_log_probs_of_the_answers(answered):
    other = Pipeline(composed(*answered.options, "model.vocab_size=300"))
    stranger = LoadedPolicy(other.settings.model, other.tokenizer, seed=1)
    artifact = GenerationLogps(stranger, other.tokenizer, answered.answers)
    assert load_generation_logps(answered.store.ensure(artifact)) is None


def raw(*rows):
    """A split's rows as data holds them, of (group, response, stored, position, subset, knowledge)."""
    names = ("group", "response", "stored", "position", "subset", "knowledge")
    found = [dict(zip(names, row, strict=True)) for row in rows]
    for row in found:
        told = row.pop("knowledge")
        parts = [Part("Hello?"), *([Part(told, source=True)] if told else [])]
        row["parts"] = [vars(part) for part in parts]
    return pa.Table.from_pylist(found)


def test_references_knowledge_and_subsets_are_looked_up_by_prompt():
    table = raw(
        ("a", "low", 0.1, 0, "one", "Whales are large."),
        ("b", "first", None, 0, "two", None),
        ("a", "high", 0.9, 1, "one", "Whales are large."),
        ("b", "second", None, 1, "two", None),
        ("c", "only", None, 1, None, None),
        ("unasked", "none", 1.0, 0, "three", None),
        ("b", "first again", None, 0, "one", None),
    )
    found = logged(table, ["b", "a", "c"], References.best)
    assert found.references == [["first", "first again"], ["high"], ["only"]]
    assert found.knowledge == [None, "Whales are large.", None]
    assert found.subsets == ["two", "one", "other"]  # b was asked in two first
    assert logged(table, ["a", "b"], References.all).references == [["low", "high"], ["first", "second", "first again"]]


def test_data_without_subsets_have_no_parts():
    assert logged(raw(("a", "yes", None, 0, None, None)), ["a"], References.all).subsets is None


def told(task, record):
    """A task whose every row is this record, asked something of its own."""

    class Told(type(task)):
        def records(self, row):
            return [replace(record, parts=(*record.parts, Part(row["prompt"])))]

    return Told(**vars(task))


def test_what_a_record_says_reaches_the_rows(tmp_path):
    record = Record((Part("Whales are large.", source=True), Part("Hello?")), "Yes.", subset="sea")

    artifact = Data(told(composed(f"task.path={reviews(tmp_path / 'rows')}").task, record))
    table = load_data(store(tmp_path / "out").ensure(artifact), "test")
    assert set(table.column("subset").to_pylist()) == {"sea"}
    assert [part["source"] for part in table.column("parts").to_pylist()[0]] == [True, False, False]


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """Metrics of one saved model beside another on dialogues of three parts, 12, 8 and 4 of 24 prompts."""
    folder = tmp_path_factory.mktemp("evaluated")
    for split in ("train", "validation", "test"):
        parts = [HHA_PARTS[i] for i in PARTS]
        rows = [
            {
                "prefix": [[f"<|prompter|>Is {split} {i} good?", "<|assistant|>"]] * 2, "suffix": ["good nice love", "bad awful"],
                "reward": [0.5, -0.5], "meta": {"path": f"hhrlhf/{part}/dev.jsonl"},
            }
            for i, part in enumerate(parts)
        ]  # fmt: skip
        write_rows(folder / "rows" / f"{split}.jsonl", rows)
    models = [outspoken(folder / f"model-{seed}", seed) for seed in (1, 2)]
    line = Pipeline(
        composed(
            "task=hha", f"task.path={folder / 'rows'}", "reward=vader", "model=pretrained", f"model.path={models[0]}",
            "reference=pretrained", f"policy={models[1]}", "task.max_prompt_tokens=40", "task.max_response_tokens=6",
            "generation.samples=2", "resamples=40",
        )
    )  # fmt: skip
    opened = store(folder / "out")
    directory = opened.ensure(line.metrics)
    return SimpleNamespace(metrics=read_json(directory / "metrics.json"), line=line, store=opened)


@pytest.mark.slow
def test_the_means_of_the_parts_are_weighted_to_the_whole(evaluated):
    metrics = evaluated.metrics
    assert {name: part["n"] for name, part in metrics["by"].items()} == dict(zip(HHA_PARTS, (12, 8, 4), strict=True))
    for figure in (lambda m: m["gain"], lambda m: m["policy"]["reward"], lambda m: m["reference"]["reward"]):
        weighted = sum(part["n"] * figure(part)["mean"] for part in metrics["by"].values()) / metrics["n"]
        assert weighted == pytest.approx(figure(metrics)["mean"])
    assert len({part["gain"]["mean"] for part in metrics["by"].values()}) > 1


@pytest.mark.slow
def test_the_figures_of_a_part_are_those_of_its_prompts(evaluated):
    rewards = [
        load_rewards(evaluated.store.path(side.rewards["reward"])).reshape(-1, 2).mean(axis=1)
        for side in (evaluated.line.metrics.policy, evaluated.line.metrics.reference)
    ]
    part, own = evaluated.metrics["by"]["harmless-base"], np.flatnonzero(np.array(PARTS) == 0)
    assert part["policy"]["reward"]["mean"] == pytest.approx(rewards[0][own].mean())
    assert part["gain"]["mean"] == pytest.approx((rewards[0] - rewards[1])[own].mean())
    assert part["gain"]["ci95"][0] <= part["gain"]["mean"] <= part["gain"]["ci95"][1]
    assert evaluated.metrics["by"]["helpful-base"]["gain"]["ci95"] is None  # 8 prompts


def test_both_sides_have_every_figure_and_none_that_does_not_apply(evaluated):
    policy, reference = evaluated.metrics["policy"], evaluated.metrics["reference"]
    assert policy.keys() == reference.keys()
    found = {"bleu", "rouge_1", "rouge_2", "rouge_l", "perplexity", "kl", "kl_per_token"}
    assert all(np.isfinite([side[name]["mean"], *side[name]["ci95"]]).all() for side in (policy, reference) for name in found)
    assert policy["coverage"] is policy["density"] is None
    assert reference["kl"] == reference["kl_per_token"] == {"mean": 0.0, "ci95": [0.0, 0.0]}
    assert policy["kl"]["mean"] > 0
    assert evaluated.metrics["references"] == "best"
    assert evaluated.metrics["words"]["tokenizer"] == "13a"
    assert json.dumps(evaluated.metrics, allow_nan=False)


def test_the_perplexity_of_logged_responses_is_that_of_their_stored_log_probs(evaluated):
    found = evaluated.metrics["logged_responses"]
    nats = {}
    for name in ("policy", "reference"):
        logps, tokens = load_likelihoods(evaluated.store.path(getattr(evaluated.line.metrics, name).likelihoods))
        nats[name] = -logps.sum() / tokens.sum()
        assert len(logps) == 2 * len(PARTS)
        assert found[name]["nats_per_token"]["mean"] == pytest.approx(nats[name])
        assert found[name]["perplexity"]["mean"] == pytest.approx(np.exp(nats[name]))
        low, high = found[name]["perplexity"]["ci95"]
        assert low <= np.exp(nats[name]) * (1 + 1e-9)
        assert high >= np.exp(nats[name]) * (1 - 1e-9)
    # the two folders hold equal tokenizers, but nothing says so: tokens are compared by their recipe
    assert found["difference"] is None
    assert nats["policy"] != nats["reference"]


def test_the_length_controlled_gain_is_that_of_the_responses(evaluated):
    texts = [
        load_generations(evaluated.store.path(side.generations)).column("response").to_pylist()
        for side in (evaluated.line.metrics.policy, evaluated.line.metrics.reference)
    ]
    rewards = [
        load_rewards(evaluated.store.path(side.rewards["reward"])).reshape(-1, 2).mean(axis=1)
        for side in (evaluated.line.metrics.policy, evaluated.line.metrics.reference)
    ]
    words = [np.array([len(text.split()) for text in side]).reshape(-1, 2).mean(axis=1) for side in texts]
    slope, at_zero = np.polyfit(words[0] - words[1], rewards[0] - rewards[1], 1)
    found = evaluated.metrics["length_controlled_gain"]
    assert found["mean"] == pytest.approx(at_zero)
    assert found["slope"] == pytest.approx(slope * np.std(words[0] - words[1]))
    assert found["ci95"][0] < at_zero < found["ci95"][1]
    assert evaluated.metrics["length_controlled_held_out_gain"] is None


@pytest.mark.slow
def test_answers_in_words_of_the_knowledge_are_covered_by_it(tmp_path):
    model = outspoken(tmp_path / "model")
    settings = composed(
        "model=pretrained", f"model.path={model}", "reference=pretrained", f"policy={model}", "task.max_response_tokens=6",
        "task.max_prompt_tokens=40", "resamples=20", f"task.path={reviews(tmp_path / 'rows', others=12)}",
    )  # fmt: skip
    words = [word for word in load_tokenizer(model).get_vocab() if word.isalpha()]
    record = Record((Part(" ".join(words), source=True),), "Yes.")
    line = Pipeline(replace(settings, task=told(settings.task, record)))
    metrics = read_json(store(tmp_path / "out").ensure(line.metrics) / "metrics.json")
    for side in (metrics["policy"], metrics["reference"]):
        assert side["coverage"] == {"mean": 1.0, "ci95": [1.0, 1.0]}
        assert side["density"]["mean"] >= 1.0
    assert metrics["by"] is None
    assert metrics["policy"]["kl"]["mean"] == pytest.approx(0, abs=1e-4)  # the same model, loaded from its folder
