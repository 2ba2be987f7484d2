"""Open Assistant's reward models in their published layout: scores are those of one row alone, and text stays text."""

import json
import re
import shutil
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from running import SMALL, quick
from safetensors.torch import load_file, save_file
from tiny import TEXTS, VOCABULARY, composed, some_slow, tokenizer, write_rows
from tokenizers import AddedToken
from transformers import GPTNeoXConfig, GPTNeoXModel

from aloll_cli.errors import UserError
from aloll_cli.rewards.base import Row

CONTROL = {"<|prompter|>": VOCABULARY, "<|assistant|>": VOCABULARY + 1, "<|endoftext|>": VOCABULARY + 2}
PROMPTER, ASSISTANT, END = CONTROL.values()
HIDDEN, LAYERS = 32, 2
SHORT = ["updates=2", "eval_every=2", "eval_prompts=2", "reference.updates=2", "reference.eval_every=2", "values.folds=2"]


def own_tokenizer(special=True):
    """A byte-level BPE with Open Assistant's control tokens behind its vocabulary."""
    made = deepcopy(tokenizer())
    made.add_tokens([AddedToken(token, special=special, normalized=False) for token in CONTROL], special_tokens=special)
    made.eos_token = "<|endoftext|>"
    return made


def publish(folder, seed=0, **options):
    """A random reward model in the layout of OpenAssistant/oasst-rm-2.1-pythia-1.4b-epoch-2.5; returns the folder's name."""
    torch.manual_seed(seed)
    config = GPTNeoXConfig(
        vocab_size=VOCABULARY + 8, hidden_size=HIDDEN, num_hidden_layers=LAYERS, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=256, initializer_range=0.3,
    )  # fmt: skip
    backbone, head = GPTNeoXModel(config), torch.nn.Linear(HIDDEN, 1)
    folder.mkdir(parents=True)
    names = (
        "vocab_size",
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "intermediate_size",
        "max_position_embeddings",
    )
    published = {name: getattr(config, name) for name in names} | {
        "architectures": ["GPTNeoXRewardModel"], "model_type": "gpt_neox_reward_model", "pooling": "last",
        "torch_dtype": "float16", "rotary_pct": 0.25, "rotary_emb_base": 10000, "use_parallel_residual": True,
        "eos_token_id": 0, "bos_token_id": 0,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(published | options))
    weights = {f"gpt_neox.{name}": value for name, value in backbone.state_dict().items()}
    weights |= {f"out_proj.{name}": value for name, value in head.state_dict().items()}
    save_file({name: value.contiguous() for name, value in weights.items()}, folder / "model.safetensors", {"format": "pt"})
    own_tokenizer().save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    return publish(tmp_path_factory.mktemp("published") / "oasst-rm")


def reward(path, *options):
    return composed("reward=oasst", f"reward.path={path}", *options).reward


def turns(*said):
    """Turns by user and assistant, the user first."""
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(said)]


def rows(count=20):
    random = np.random.default_rng(0)
    words = " ".join(TEXTS).split()
    text = lambda: " ".join(random.choice(words, random.integers(1, 12)))  # noqa: E731
    return [
        Row(f"r{i}", "0" * 16, "unread", text(), turns=turns(*(text() for _ in range(2 * (i % 3) + 1)), "")) for i in range(count)
    ]


def ids_by_hand(row):
    """Control token, text, end: of each turn, the response in the place of the assistant's open one."""
    encode = lambda text: tokenizer()(text, add_special_tokens=False)["input_ids"]  # noqa: E731
    said = [turn["content"] for turn in row.turns[:-1]] + [row.response]
    return [token for i, text in enumerate(said) for token in ((PROMPTER, ASSISTANT)[i % 2], *encode(text), END)]


@torch.no_grad()
def own_logit(path, ids, pooling="last"):
    """The layout read by hand: transformers' GPT-NeoX, alone in its batch, and the head on the last state or on their mean."""
    config = json.loads(Path(path, "config.json").read_text())
    kept = {
        name: value for name, value in config.items() if name not in ("model_type", "torch_dtype", "architectures", "pooling")
    }
    model, weights = GPTNeoXModel(GPTNeoXConfig(**kept)).eval(), load_file(f"{path}/model.safetensors")
    model.load_state_dict({n.removeprefix("gpt_neox."): w for n, w in weights.items() if n.startswith("gpt_neox.")})
    states = model(input_ids=torch.tensor([ids])).last_hidden_state[0]
    pooled = states[-1] if pooling == "last" else states.mean(dim=0)
    return float(weights["out_proj.weight"][0] @ pooled + weights["out_proj.bias"][0])


def encoded(path, *some, options=()):
    return reward(path, *options).scorer(None).encode(some)


def test_a_dialogue_reads_as_published_without_the_system_line(published):
    said = [{"role": "system", "content": "A chat."}, *turns("Hi", "Hello!", "Who are you?", "")]
    found = encoded(published, Row("a", "0" * 16, "", " A friend. ", turns=said))
    (ids,) = found.inputs["input_ids"]
    assert own_tokenizer().decode(ids) == (
        "<|prompter|>Hi<|endoftext|><|assistant|>Hello!<|endoftext|><|prompter|>Who are you?<|endoftext|>"
        "<|assistant|>A friend.<|endoftext|>"
    )
    assert found.cut == [0]


def test_a_response_goes_on_where_the_assistant_spoke_last_and_opens_a_turn_elsewhere(published):
    goes_on = Row("a", "0" * 16, "", " is bread.", turns=turns("Hi", "This"))
    opens = Row("b", "0" * 16, "", " This is bread.", turns=turns("Hi"))
    first, second = encoded(published, goes_on, opens).inputs["input_ids"]
    assert first == second


def test_scores_are_the_head_on_the_last_state_of_each_row_alone(published):
    found = reward(published).scorer(None).score(rows())
    logits = np.array([own_logit(published, ids_by_hand(row)) for row in rows()])
    assert np.ptp(logits) > 0.5
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-logits)), atol=1e-5, rtol=0)
    unbounded = reward(published, "reward.activation=none")
    np.testing.assert_allclose(unbounded.scorer(None).score(rows()), logits, atol=1e-5, rtol=0)
    assert unbounded.range == (-np.inf, np.inf)
    assert reward(published).range == (0.0, 1.0)


@pytest.mark.parametrize("pooling", some_slow(["last", "mean"]))
def test_scores_depend_on_neither_batch_nor_order(tmp_path, pooling):
    path = publish(tmp_path / "model", pooling=pooling)
    found = reward(path, "reward.activation=none", "reward.batch_tokens=64").scorer(None).score(rows()[::-1])[::-1]
    expected = [own_logit(path, ids_by_hand(row), pooling) for row in rows()]
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)
    whole = reward(path, "reward.activation=none").scorer(None).score(rows())
    np.testing.assert_allclose(whole, expected, atol=1e-5, rtol=0)


def test_the_configs_share_of_rotary_dimensions_is_read(tmp_path):
    half = publish(tmp_path / "half", rotary_pct=0.5)
    found = reward(half, "reward.activation=none").scorer(None).score(rows())
    np.testing.assert_allclose(found, [own_logit(half, ids_by_hand(row)) for row in rows()], atol=1e-5, rtol=0)
    quarter = reward(publish(tmp_path / "quarter"), "reward.activation=none").scorer(None).score(rows())
    assert np.abs(found - quarter).max() > 1e-3


def test_a_dialogue_that_is_too_long_loses_its_beginning_and_that_is_counted(published):
    long = rows()[2]
    whole = ids_by_hand(long)
    scorer = reward(published, "reward.max_tokens=20", "reward.activation=none").scorer(None)
    found = scorer.encode([long])
    assert len(whole) > 40
    assert found.inputs["input_ids"] == [whole[-20:]]
    assert scorer.cut([long, Row("b", "0" * 16, "", "Yes", turns=turns("No", ""))]).tolist() == [len(whole) - 20, 0]
    assert scorer.score([long])[0] == pytest.approx(own_logit(published, whole[-20:]), abs=1e-5)


def test_null_reads_as_many_tokens_as_the_model_has_positions_for(published):
    long = Row("a", "0" * 16, "", " ".join(TEXTS * 9), turns=turns("Hi", ""))
    found = encoded(published, long, options=["reward.max_tokens=null"])
    assert [len(ids) for ids in found.inputs["input_ids"]] == [256]


def test_text_never_becomes_a_control_token(published):
    quoted = "".join(CONTROL) + "</s>"
    (ids,) = encoded(published, Row("a", "0" * 16, "", quoted, turns=turns(quoted, ""))).inputs["input_ids"]
    assert own_tokenizer().decode(ids) == f"<|prompter|>{quoted}<|endoftext|><|assistant|>{quoted}<|endoftext|>"
    text = [token for token in ids if token < VOCABULARY]
    assert [token for token in ids if token >= VOCABULARY] == [PROMPTER, END, ASSISTANT, END]
    assert len(text) > 2 * 20  # spelled out
    assert 2 not in text  # </s>


def test_a_tokenizer_that_takes_text_for_control_tokens_or_has_none_is_refused(tmp_path):
    path = publish(tmp_path / "model")
    own_tokenizer(special=False).save_pretrained(path)
    with pytest.raises(UserError, match=r"reads <\|prompter\|> in text as a control token"):
        reward(path).scorer(None)
    tokenizer().save_pretrained(path)
    with pytest.raises(UserError, match=r"the tokenizer of .*model has no token <\|prompter\|>"):
        reward(path).scorer(None)


def test_a_prompt_with_a_part_that_nobody_says_is_refused_by_row(published):
    row = Row("train-7-0", "0" * 16, "", "Yes", turns=[{"role": "context", "content": "Bread."}, *turns("Is it?")])
    with pytest.raises(UserError, match=r"example train-7-0: reward=oasst expected turns of user and assistant, got context\."):
        reward(published).scorer(None).score([row])


def test_a_folder_with_pickled_weights_only_is_refused_by_name(tmp_path):
    path = publish(tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").rename(tmp_path / "model" / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"model has no model\.safetensors; pickled weights .*\n.*refs/pr/N"):
        reward(path).scorer(None)


def test_a_folder_of_another_kind_or_without_the_head_is_refused_by_name(tmp_path):
    path = publish(tmp_path / "other", model_type="gpt_neox")
    with pytest.raises(UserError, match=r"other is not a reward model of Open Assistant .*: model_type gpt_neox, pooling last"):
        reward(path).scorer(None)
    with pytest.raises(UserError, match="pooling first"):
        reward(publish(tmp_path / "pools", pooling="first")).scorer(None)
    headless = publish(tmp_path / "headless")
    weights = load_file(f"{headless}/model.safetensors")
    save_file({n: w for n, w in weights.items() if "out_proj" not in n}, f"{headless}/model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"headless has no weights for GPTNeoXRewardModel: out_proj\.bias, out_proj\.weight"):
        reward(headless).scorer(None)


def test_shards_are_read_as_one(tmp_path, published):
    path = publish(tmp_path / "sharded")
    weights = load_file(f"{path}/model.safetensors")
    (tmp_path / "sharded" / "model.safetensors").unlink()
    names = sorted(weights)
    parts = {"model-00001-of-00002.safetensors": names[:9], "model-00002-of-00002.safetensors": names[9:]}
    for file, chosen in parts.items():
        save_file({name: weights[name] for name in chosen}, f"{path}/{file}", {"format": "pt"})
    index = {"metadata": {"total_size": 1}, "weight_map": {name: file for file, chosen in parts.items() for name in chosen}}
    (tmp_path / "sharded" / "model.safetensors.index.json").write_text(json.dumps(index))
    some = rows(5)
    assert np.array_equal(reward(path).scorer(None).score(some), reward(published).scorer(None).score(some))


@pytest.mark.slow
def test_the_weights_are_identity_and_the_path_is_not(published, tmp_path):
    from aloll_cli.artifacts.pipeline import Pipeline

    def fingerprint(path, *options):
        return Pipeline(composed("reward=oasst", f"reward.path={path}", *options)).rewards().fingerprint

    copy = shutil.copytree(published, tmp_path / "copy")
    assert fingerprint(copy) == fingerprint(published) == fingerprint(published, "reward.batch_tokens=9")
    assert fingerprint(published) != fingerprint(published, "reward.activation=none")
    assert fingerprint(published) != fingerprint(publish(tmp_path / "other", seed=1))


@pytest.mark.slow
def test_a_line_of_dialogues_with_one_reward_model_for_training_and_another_for_the_test(published, tmp_path):
    for split, count in (("train", 16), ("validation", 6), ("test", 6)):
        said = [
            f"\n\nHuman: Hi {split} {i}\n\nAssistant: Ho. ### Human: quoted\n\nHuman: Who?\n\nAssistant: " for i in range(count)
        ]
        write_rows(tmp_path / "rows" / f"{split}.jsonl", [{"chosen": f"{s}A friend.", "rejected": f"{s}Go."} for s in said])
    test = publish(tmp_path / "oasst-rm-2", seed=1)
    out, said = quick(
        tmp_path, "run", "task=hha", "task.path=rows", *SMALL, *SHORT, "reward=oasst", f"reward.path={published}",
        "reward.max_tokens=40", "values=data", "test_reward=oasst", f"test_reward.path={test}",
    )  # fmt: skip
    assert re.search(r"reward \(oasst-rm\) +\d\.\d+", out)
    assert re.search(r"oasst-rm-2\) +\d\.\d+", out)
    assert re.search(r"32 of 32 texts were too long for the reward and truncated, by \d+ tokens on average and \d+ at most", said)
    assert re.search(r" 0 of 6 texts were too long for the reward and truncated\n", said)
