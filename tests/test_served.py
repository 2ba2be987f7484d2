"""Responses of a policy on a server: the same greedy texts, a probe before it is trusted, and retries within bounds."""

import json
import socket
from dataclasses import replace

import numpy as np
import pytest
import torch
from completions import NAME, Model, serving
from tiny import composed, llama, outspoken, reviews, store, tokenizer

from aloll_cli.artifacts.generations import Generations, load_generations
from aloll_cli.artifacts.pipeline import Pipeline
from aloll_cli.errors import UserError
from aloll_cli.models import served as models
from aloll_cli.models import server as servers
from aloll_cli.models.base import Dtype, Placement
from aloll_cli.models.decoding import Greedy, Sample, Servers
from aloll_cli.models.generation import respond
from aloll_cli.models.served import served

GREEDY = Greedy(repetition_penalty=1.0)
SAMPLE = Sample(samples=1, seed=1, top_p=1.0, temperature=1.0, repetition_penalty=1.0)
NAMES = ["a", "b", "c", "d"]
PLACE = Placement(torch.device("cpu"), Dtype.float32, None)


def prompts():
    """Prompts whose text is read as the same tokens."""
    texts = ["The soup was", "We loved the garden", "How do I", "bread and wait"]
    return [np.array(tokenizer()(text)["input_ids"]) for text in texts]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(servers, "LONGEST_WAIT", 0.0)
    monkeypatch.setattr(models, "LENGTH", 8)


def found(model, url, local=None, name=NAME):
    return served(Servers([url], name, 3), ["elsewhere"], prompts(), local or model.model, tokenizer())


def answers(policy, generation=GREEDY, stop=(), given=None):
    given = prompts() if given is None else given
    return policy.respond(given, NAMES[: len(given)], generation, stream="0", max_tokens=8, stop=list(stop))


def locally(model, generation=GREEDY, stop=()):
    return respond(model, tokenizer(), prompts(), NAMES, generation, stream="0", max_tokens=8, stop=list(stop), batch_tokens=1000)


@pytest.mark.parametrize("by_ids", [True, False], ids=["token ids", "text"])
def test_greedy_responses_are_those_of_the_local_model(by_ids):
    model = Model(llama(), tokenizer(), by_ids)
    with serving(model) as url:
        policy, probe = found(model, url)
        assert (policy.by_ids, probe.prompts) == (by_ids, 1.0)
        assert probe.gap < 1e-3
        assert (probe.apart is None) == (not by_ids)
        assert [r.text for r in answers(policy)] == [r.text for r in locally(model.model)]
        if by_ids:
            stop = ["a", "e"]
            assert answers(policy) == locally(model.model)
            assert answers(policy, stop=stop) == locally(model.model, stop=stop)
            assert policy.retokenized == 0


def test_sampled_responses_have_a_seed_for_each_row_and_are_the_same_again():
    model = Model(llama(), tokenizer())
    with serving(model) as url:
        policy, _ = found(model, url)
        del model.requests[:]
        first = answers(policy, SAMPLE)
        assert answers(policy, SAMPLE) == first
        assert len({r.text for r in first}) == 4
        seeds = {json.dumps(body["prompt"]): body["seed"] for body in model.requests}
        assert len(set(seeds.values())) == 4
        assert len(model.requests) == 8
        assert all((body["top_k"], body["min_p"], body["temperature"]) == (-1, 0.0, 1.0) for body in model.requests)


def test_another_model_and_another_tokenizer_are_refused():
    model = Model(llama(seed=1), tokenizer())
    with serving(model) as url:
        with pytest.raises(
            UserError, match=r"no server holds this policy, elsewhere\. .*token ids: greedy tokens at most .* nats"
        ):
            found(model, url, llama())
        model.by_ids = False
        with pytest.raises(UserError, match="asked by text: greedy continuations that cannot be compared"):
            found(model, url, llama())
        model.change = lambda answer: answer["usage"].update(prompt_tokens=3)
        with pytest.raises(UserError, match=r"reads the prompt of probe 0 as 3 tokens; it has \d+"):
            found(model, url, model.model)
        with pytest.raises(UserError, match="The model other does not exist"):
            found(model, url, name="other")


def test_a_model_that_differs_in_its_log_probs_alone_is_refused():
    model = Model(llama(), tokenizer())

    def flatter(answer):
        logprobs = answer["choices"][0]["logprobs"]
        logprobs["token_logprobs"] = [logp - 0.1 for logp in logprobs["token_logprobs"]]

    model.change = flatter
    with serving(model) as url, pytest.raises(UserError, match=r"log-probs 0\.1 nats apart"):
        found(model, url)


def test_a_name_is_looked_for_among_the_listed_models():
    model = Model(llama(), tokenizer())
    with serving(model) as url:
        policy, _ = found(model, url, name=None)
        assert policy.name == NAME
        assert [body["model"] for body in model.requests[:3]] == ["elsewhere", "elsewhere", NAME]


@pytest.mark.slow
def test_busy_servers_and_damaged_answers_are_asked_again(monkeypatch):
    monkeypatch.setattr(servers, "TIMEOUT", 1.5)
    model = Model(llama(), tokenizer())
    with serving(model) as url:
        policy, _ = found(model, url)
        model.faults = [
            (429, {"Retry-After": "30"}, b"{}"),
            (200, {}, b'{"choices": ['),
            (503, {}, b"busy"),
            2.5,
        ]
        assert answers(policy, given=prompts()[:1]) == locally(model.model)[:1]
        assert model.faults == []


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ((429, {}, b'{"error": {"message": "slow down"}}'), r"in 5 tries; the last had status 429: slow down"),
        ((200, {}, b"{"), "the last had a reply that is no completion"),
        ((200, {}, b"[]"), "the last had a reply that is no completion"),
        ((200, {}, b'{"choices": [{"text": 3, "finish_reason": "stop"}]}'), "the last had a reply that is no completion"),
        ((400, {}, b'{"message": "too long"}'), "status 400: too long"),
    ],
)
def test_a_server_that_gives_no_answer_is_named_with_its_last_words(fault, message):
    model = Model(llama(), tokenizer())
    with serving(model) as url:
        policy, _ = found(model, url)
        model.faults = [fault] * 30
        with pytest.raises(UserError, match=message):
            answers(policy)


def test_where_nobody_answers_the_address_is_named():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(UserError, match=f"no server replies at {url}/v1"):
        served(Servers([url], None, 3), ["x"], prompts(), llama(), tokenizer())


def test_a_prompt_that_no_text_is_read_as_is_refused_by_name_where_only_text_is_taken():
    model = Model(llama(), tokenizer(), by_ids=False)
    with serving(model) as url:
        policy, _ = found(model, url)
        twice = [np.array(tokenizer()("soup")["input_ids"]), np.array([3 + ord("a") % 50, 2, 1, 40, 41, 42])]
        with pytest.raises(UserError, match="takes no token ids, and no text has the tokens of the prompt of b"):
            answers(policy, given=twice)


def test_responses_of_other_tokens_than_their_text_s_own_are_counted():
    model = Model(llama(), tokenizer(), by_ids=False)
    with serving(model) as url:
        policy, _ = found(model, url)
        model.change = lambda answer: answer["usage"].update(completion_tokens=99)
        answers(policy)
        assert policy.retokenized == 4


def test_options_of_servers_are_checked_and_reach_samples_and_evaluations():
    with pytest.raises(UserError, match=r"generation\.server=localhost:8000 is no address"):
        replace(GREEDY, server="localhost:8000")
    with pytest.raises(UserError, match="a repetition penalty"):
        Sample(samples=1, seed=1, top_p=1.0, temperature=1.0, repetition_penalty=1.2, server="http://a")
    settings = composed("generation.server=[http://b,http://c]", "generation.server_requests=2")
    assert settings.generation.servers == Servers(["http://b", "http://c"], None, 2)
    line = Pipeline(settings)
    assert line.samples.servers == line.side(line.reference, line.examples).generations.servers == settings.generation.servers


@pytest.mark.slow
def test_a_split_is_answered_by_a_server_block_by_block_and_says_so(tmp_path):
    folder = outspoken(tmp_path / "model")
    line = Pipeline(
        composed("model=pretrained", f"model.path={folder}", "reference=pretrained", f"task.path={reviews(tmp_path / 'rows')}",
                 "task.max_response_tokens=4")
    )  # fmt: skip
    opened = store(tmp_path / "out")
    model = Model(line.reference.model.initial(line.reference.model.tokenizer([]), 1, PLACE), line.reference.model.tokenizer([]))
    two = Sample(samples=2, seed=1, top_p=1.0, temperature=1.0, repetition_penalty=1.0)
    with serving(model) as url:
        artifact = Generations(line.reference, line.examples, "test", two, Servers([url], NAME, 4))
        rows = load_generations(opened.ensure(artifact))
    assert rows.num_rows == 8
    assert rows.column("id").to_pylist()[1] == rows.column("group").to_pylist()[0] + "-2"
    told = json.loads((opened.path(artifact) / "server.json").read_text())
    assert (told["model"], told["prompts"]) == (NAME, "token ids")
    assert told["probe"]["gap"] < 1e-3
    assert artifact.recipe["identity"]["generated_by"] == "server"
