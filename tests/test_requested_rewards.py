"""Rewards by request, against a scripted server: http and llm; and the critic of COMET, by hand-made weights."""

import json
import re
from copy import deepcopy
from dataclasses import replace
from functools import cache
from math import erf

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scripted_server import Act, Scripted, texts_of
from tiny import VOCABULARY, composed, tokenizer
from transformers import RobertaConfig, RobertaModel

from aloll_cli.artifacts.data import Data
from aloll_cli.artifacts.mixed_rewards import scored_by
from aloll_cli.errors import UserError
from aloll_cli.rewards.base import Row
from aloll_cli.rewards.comet_critic import HEAD, pair_of
from aloll_cli.rewards.llm import read_score
from aloll_cli.runtime import asking
from aloll_cli.tasks.atomic2020 import as_prompt

SECRET = "sk-very-secret-0123456789"
ROWS = [Row(f"r{i}", "0" * 16, f"p{i}", "x" * i, turns=[{"role": "user", "content": f"p{i}"}]) for i in range(10)]


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(asking, "FIRST_WAIT", 0.001)


@cache
def plain(name, *options):
    """Settings with a reward, composed once."""
    return composed(f"reward={name}", "reward.url=http://localhost:1/v1", "reward.key=TEST_KEY", *options)


def http(server, **options):
    return replace(plain("http", "reward.revision=7").reward, url=server.url, **{"rows": 4, "timeout": 0.4} | options)


def llm(server, **options):
    return replace(plain("llm", "reward.model=m").reward, url=server.url, **{"timeout": 0.4} | options)


def by_length(request):
    return [len(row["response"]) / 10 for row in json.loads(request)["rows"]]


def test_http_scores_are_those_of_the_server_in_the_order_of_the_rows(monkeypatch):
    monkeypatch.setenv("TEST_KEY", SECRET)
    broken = [Act("status", code=503), Act("raw", '{"scores": [0.1'), Act("raw", "{}", seconds=0.6)]

    def reply(request, count):
        first = json.loads(request)["rows"][0]["id"]
        if count == 0:
            return broken[["r0", "r4", "r8"].index(first)]
        return Act("raw", json.dumps({"scores": by_length(request)} if first == "r4" else by_length(request)))

    with Scripted(reply) as server:
        found = http(server).scorer(None).score(ROWS)
    np.testing.assert_array_equal(found, [i / 10 for i in range(10)])
    assert len(server.bodies) == 6
    assert sorted(server.bodies[0]["rows"][0]) == ["id", "prompt", "response", "stored", "turns"]


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ("[0.1, 0.2]", "replied with 2 scores for 4 rows from r0 on"),
        ('{"scores": {"r0": 1}}', "expected"),
        ('["1", 0, 0, 0]', "the score '1' for row r0; expected a finite number"),
        ("[0, NaN, 0, 0]", "the score nan for row r1"),
        ("[0, 0, 1e999, 0]", "the score inf for row r2"),
        ("[0, 0, 0, true]", "the score True for row r3"),
        ("[0, 0, 0, null]", "the score None for row r3"),
    ],
)
def test_scores_that_are_not_as_many_numbers_as_rows_are_refused_at_once_by_name(reply, said):
    with Scripted(lambda request, count: Act("raw", reply)) as server, pytest.raises(UserError, match=re.escape(said)) as raised:
        http(server).scorer(None).score(ROWS[:4])
    assert len(server.bodies) == 1
    assert "reward.url=http" in str(raised.value)


def test_a_server_that_stays_busy_is_given_up_and_its_complaint_shows_no_key(monkeypatch):
    monkeypatch.setenv("TEST_KEY", SECRET)
    with (
        Scripted(lambda request, count: Act("status", "busy"), echo_key=True) as server,
        pytest.raises(UserError, match=r"HTTP 429: .*busy.*\(tried 2 times\)") as raised,
    ):
        http(server, tries=2).scorer(None).score(ROWS[:4])
    assert SECRET not in str(raised.value)
    with pytest.raises(UserError, match="cannot be reached"):  # it has stopped
        http(server, tries=1).scorer(None).score(ROWS[:4])


def test_the_recipe_of_http_holds_url_and_revision_and_no_key(monkeypatch):
    monkeypatch.setenv("TEST_KEY", SECRET)
    settings = plain("http", "reward.revision=7")
    told = scored_by(settings.reward, Data(settings.task)).identity()
    assert told["reward"] == {"name": "http", "url": "http://localhost:1/v1", "revision": "7", "lo": 0.0, "hi": 1.0}
    settings = plain("llm", "reward.model=m")
    told = scored_by(settings.reward, Data(settings.task)).identity()["reward"]
    options = {"model", "revision", "rubric", "temperature", "max_tokens", "body", "malformed"}
    assert set(told) == options | {"name", "version"}


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("7", 7), ("Score: 10", 10), ("8/10", 8), ("**9**", 9), ("7.0", 7), ("I give it 3.", 3), ("3 out of 10", 3),
        ("0", None), ("11", None), ("7.5", None), ("between 6 and 8", None), ("seven", None), ("", None), ("-5", None),
        ("5 (5)", 5), ("8 / 10", 8), ("8.0 / 10.0", 8), ("**8** / 10", 8), ("10/10", 10), ("7 – a good reply", 7), ("- 7", 7),
        ("7—clear", 7), ("7\n- 20 words", 7), ("Rating (1-10): 7", 7), ("On a scale of 1 to 10: 7", 7), ("I am 90% sure: 7", 7),
        ("7/10, 70%", 7),
        ("8 / 100", None), ("8/100", None), ("8 / 20", None), ("8/20", None), ("8⁄20", None), ("**8**/20", None), ("8 /20", None),
        ("8 out of 20", None), ("8 out of 100", None), ("4 of 5", None), ("4 of 20", None), ("5 of 5", None), ("5 / 5", None),
        ("5★ of 5", None), ("5 stars of 5", None), ("**5** out of 5", None), ("10%", None), ("10 %", None), ("8 percent", None),
        ("3-4", None), ("3–4", None), ("3 — 4", None), ("3 to 4", None), ("3 to 20", None), ("8−9", None), ("5-20", None),
        ("–3", None), ("−3", None), ("—3", None), ("7th", None), ("7.5/10", None), ("11/10", None), ("1,000", None),
        ("8/10/2024", None), ("8 / ten", None), ("7 or 8", None), ("7 " + "*" * 900 + "/20", None),
    ],
)  # fmt: skip
def test_a_score_is_one_whole_number_from_1_to_10(text, score):
    assert read_score(text) == score


def test_llm_scores_become_rewards_and_malformed_ones_are_counted():
    def reply(request, count):
        place = int(texts_of(request)["prompt"][1:])
        return Act(text="no idea") if place == 5 else Act("half") if place == 3 and not count else Act(text=f"{place + 1}")

    with Scripted(reply) as server:
        scorer = llm(server, max_malformed=0.1).scorer(None)
        found = scorer.score(ROWS)
    expected = [i / 9 for i in range(10)]
    np.testing.assert_allclose(found, expected[:5] + [0.5] + expected[6:])
    assert scorer.malformed(ROWS).tolist() == [i == 5 for i in range(10)]


def test_too_many_malformed_scores_are_refused_with_one_of_them():
    with Scripted(lambda request, count: Act(text="As a model I cannot.")) as server:
        scorer = llm(server).scorer(None)
        with pytest.raises(UserError, match="10 of 10 replies are no number from 1 to 10.*row r0 the model replied 'As a model"):
            scorer.score(ROWS)


def publish(folder):
    """A small critic in the published layout with random weights, and its head with hand-made ones; returns the folder's name."""
    torch.manual_seed(0)
    config = RobertaConfig(
        vocab_size=VOCABULARY, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=64, pad_token_id=0, bos_token_id=1, eos_token_id=2, initializer_range=0.5, type_vocab_size=1,
    )  # fmt: skip
    RobertaModel(config, add_pooling_layer=True).save_pretrained(folder)
    made = deepcopy(tokenizer())
    made.model_max_length = 10_000
    made.save_pretrained(folder)
    head = {
        "dense.weight": torch.arange(32).reshape(4, 8) / 16 - 1, "dense.bias": torch.tensor([0.5, -0.5, 0.0, 1.0]),
        "out_proj.weight": torch.tensor([[1.0, -2.0, 0.5, 1.5]]), "out_proj.bias": torch.tensor([-0.25]),
    }  # fmt: skip
    save_file(head, folder / f"{HEAD}.safetensors")
    return folder


@pytest.fixture(scope="module")
def critic(tmp_path_factory):
    return publish(tmp_path_factory.mktemp("critic"))


@cache
def critics(folder):
    return composed("task=comet", "reward=comet_critic", f"reward.path={folder}").reward


def triple(tail, relation="xNeed", group="0" * 16, name="t"):
    return Row(name, group, as_prompt("PersonX meets PersonY", relation), f" {tail} ")


@torch.no_grad()
def by_hand(folder, row):
    """σ(w₂ · GELU(W₁ tanh(P h₀ + p) + b₁) + b₂), of one row alone, by numpy from the state of the first token on."""
    ids = tokenizer()(*pair_of(row))["input_ids"]
    model = RobertaModel.from_pretrained(folder, add_pooling_layer=True).eval()
    first = model(input_ids=torch.tensor([ids])).last_hidden_state[0, 0].double().numpy()
    weights = {name: tensor.double().numpy() for name, tensor in load_file(folder / "model.safetensors").items()}
    head = {name: tensor.double().numpy() for name, tensor in load_file(folder / f"{HEAD}.safetensors").items()}
    pooled = np.tanh(weights["pooler.dense.weight"] @ first + weights["pooler.dense.bias"])
    inner = head["dense.weight"] @ pooled + head["dense.bias"]
    activated = np.array([x * (1 + erf(x / 2**0.5)) / 2 for x in inner])
    return 1 / (1 + np.exp(-(head["out_proj.weight"][0] @ activated + head["out_proj.bias"][0])))


def test_the_critic_reads_a_triple_in_its_own_words_with_names_that_depend_on_the_prompt_alone():
    head, rest = pair_of(triple("to buy PersonY food"))
    x, y = head.split(" meets ")
    assert rest == f"but before, {x} needed to buy {y} food"
    assert x != y
    assert pair_of(triple("to sleep"))[0] == head
    assert pair_of(triple("angry", "xAttr"))[1] == f"so, {x} is seen as angry"
    assert pair_of(triple("to sleep", group="f" * 16))[0] != head


def test_scores_of_the_critic_are_those_by_hand_in_any_batch(critic):
    rows = [
        triple(tail, relation) for relation in ("xNeed", "HinderedBy") for tail in ("a", "to go to the good place", "the bus")
    ]
    reward = critics(critic)
    expected = [by_hand(critic, row) for row in rows]
    assert np.ptp(expected) > 0.01
    np.testing.assert_allclose(reward.scorer(None).score(rows), expected, atol=1e-5, rtol=0)
    alone = replace(reward, batch_tokens=1)
    np.testing.assert_allclose(alone.scorer(None).score(rows[::-1])[::-1], expected, atol=1e-5, rtol=0)
    assert reward.range == (0.0, 1.0)


def test_a_triple_that_is_too_long_is_cut_and_counted(critic):
    scorer = replace(critics(critic), max_tokens=12).scorer(None)
    long = triple("to go to the good place and to the bad place and back again")
    whole = len(tokenizer()(*pair_of(long))["input_ids"])
    assert scorer.cut([long]).tolist() == [whole - 12]
    assert len(scorer.encode([long]).inputs["input_ids"][0]) == 12


def test_what_is_no_triple_or_no_critic_is_refused_by_name(critic, tmp_path):
    with pytest.raises(UserError, match="example r1: reward=comet_critic scores triples"):
        pair_of(ROWS[1])
    with pytest.raises(UserError, match="the critic knows no relation isAfter"):
        pair_of(triple("x", "isAfter"))
    other = publish(tmp_path / "other")
    (other / f"{HEAD}.safetensors").unlink()
    (other / f"{HEAD}.pt").touch()
    with pytest.raises(UserError, match=f"has no {HEAD}.safetensors.\nConvert {HEAD}.pt once"):
        replace(critics(critic), path=str(other))
    wrong = load_file(critic / f"{HEAD}.safetensors") | {"dense.weight": torch.zeros(4, 9)}
    save_file(wrong, other / f"{HEAD}.safetensors")
    with pytest.raises(UserError, match=r"dense.weight has the shape \(4, 9\) instead of \(4, 8\)"):
        replace(critics(critic), path=str(other)).scorer(None)
