"""Checkpoints of several architectures: log-probs, states and answers are transformers' own, whatever padding and head."""

from functools import cache

import numpy as np
import pytest
import torch
from tiny import VOCABULARY, open_model, tokenizer
from torch.testing import assert_close
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3Config,
    Gemma3ForCausalLM,
    Gemma3ForConditionalGeneration,
    Gemma3TextConfig,
    GemmaConfig,
    GemmaForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from aloll_cli.errors import UserError
from aloll_cli.models import logprobs
from aloll_cli.models.decoding import Greedy
from aloll_cli.models.generation import respond
from aloll_cli.models.logprobs import ResponseLogps
from aloll_cli.models.value_head import ValueHead, predict, prompt_states
from aloll_cli.text.encoding import left_padded, right_padded
from aloll_cli.training.batches import TokenBatch

PAD = 0
LENGTHS = [(1, 4), (7, 2), (4, 1), (12, 9)]  # tokens of prompt and response
SIZES = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "max_position_embeddings": 64, "initializer_range": 0.5, "pad_token_id": PAD, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
GROUPED = SIZES | {"num_key_value_heads": 1, "head_dim": 16}
WINDOW = 4  # tokens that a sliding layer sees: fewer than the rows have
NARROW = {"sliding_window": WINDOW, "layer_types": ["sliding_attention", "full_attention"]}
EYES = {
    "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 16,
    "patch_size": 8,
}  # fmt: skip

PLAIN = {
    "gpt2": lambda: GPT2LMHeadModel(
        GPT2Config(
            vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=2, n_positions=64, initializer_range=0.5, pad_token_id=PAD,
            bos_token_id=2, eos_token_id=2,
        )
    ),
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES)),
    "llama_tied": lambda: LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=True)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**GROUPED, use_sliding_window=True, **NARROW)),
    "gpt_neox": lambda: GPTNeoXForCausalLM(GPTNeoXConfig(**SIZES)),
    "gpt_neox_partly_rotary": lambda: GPTNeoXForCausalLM(
        GPTNeoXConfig(**SIZES, rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.25})
    ),
    "gemma": lambda: GemmaForCausalLM(GemmaConfig(**GROUPED)),
    "gemma3": lambda: Gemma3ForCausalLM(Gemma3TextConfig(**GROUPED, **NARROW)),
    "gemma3_that_sees": lambda: Gemma3ForConditionalGeneration(
        Gemma3Config(text_config=GROUPED | NARROW, vision_config=EYES, mm_tokens_per_image=4)
    ),
}  # fmt: skip
BENT = {  # their logits are no linear function of the last state
    "gemma2_capped": lambda: Gemma2ForCausalLM(Gemma2Config(**GROUPED, final_logit_softcapping=3.0, **NARROW)),
    "gemma3_capped": lambda: Gemma3ForCausalLM(Gemma3TextConfig(**GROUPED, final_logit_softcapping=3.0, **NARROW)),
    "cohere_scaled": lambda: CohereForCausalLM(CohereConfig(**SIZES, logit_scale=0.4)),
    "granite_scaled": lambda: GraniteForCausalLM(GraniteConfig(**SIZES, logits_scaling=2.0)),
}
TIED = {"gpt2", "llama_tied", "gemma", "gemma3", "gemma3_that_sees", "gemma2_capped", "gemma3_capped", "cohere_scaled"}
EVERY = pytest.mark.parametrize("kind", [*PLAIN, *BENT])


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """kind → the model, saved by transformers and loaded as ``model=pretrained`` loads it."""

    @cache
    def load(kind):
        folder = tmp_path_factory.mktemp(kind)
        torch.manual_seed(0)
        (PLAIN | BENT)[kind]().save_pretrained(folder)
        tokenizer().save_pretrained(folder)
        return open_model(folder)

    return load


def rows(seed=3):
    random = np.random.default_rng(seed)
    return [(random.integers(3, VOCABULARY, p), random.integers(3, VOCABULARY, r)) for p, r in LENGTHS]


def batch(chosen):
    prompts, responses = zip(*chosen, strict=True)
    return TokenBatch(*left_padded(prompts, PAD, "cpu"), *right_padded(responses, PAD, "cpu"))


def own_logits(model, prompt, response):
    """(T, V) of the response's tokens, from the row alone without mask, position or padding."""
    ids = torch.tensor([[*prompt, *response]])
    return model(input_ids=ids).logits[0, len(prompt) - 1 : -1].float(), torch.tensor(response)


def own_mean(model, prompt, response):
    """Mean ln π of the response's tokens by transformers' own loss."""
    ids = torch.tensor([[*prompt, *response]])
    labels = ids.clone()
    labels[0, : len(prompt)] = -100
    return -model(input_ids=ids, labels=labels).loss


@pytest.mark.slow
def test_the_checkpoints_are_of_the_architectures_they_are_called_by(loaded):
    for kind in [*PLAIN, *BENT]:
        model = loaded(kind)
        assert model.config.model_type.startswith(kind.split("_")[0]), kind
        shared = model.get_output_embeddings().weight is model.get_input_embeddings().weight
        assert shared == (kind in TIED), kind
    rotary = loaded("gpt_neox_partly_rotary").gpt_neox.rotary_emb.inv_freq
    assert len(rotary) * 2 == 4  # of 16 dimensions a head


def test_a_model_with_pickled_weights_only_is_refused_by_name(tmp_path):
    PLAIN["llama"]().save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"has no model\.safetensors; pickled weights \(pytorch_model\.bin\) are not loaded\."):
        open_model(tmp_path)


@EVERY
@torch.no_grad()
def test_log_probs_of_a_padded_batch_are_the_models_own_of_each_row(loaded, kind):
    model, chosen = loaded(kind), rows()
    together = batch(chosen).logps(ResponseLogps(model))
    spread = []
    for found, (prompt, response) in zip(together, chosen, strict=True):
        logits, targets = own_logits(model, prompt, response)
        own = logits.log_softmax(dim=-1).gather(1, targets[:, None])[:, 0]
        assert_close(found[: len(response)], own, atol=1e-5, rtol=0)
        assert_close(found.sum() / len(response), own_mean(model, prompt, response), atol=1e-5, rtol=0)
        spread.append(logits.std(dim=-1))
    assert torch.cat(spread).mean() > 1  # nats: logits so alike that nothing could go wrong would prove nothing


@EVERY
@torch.no_grad()
def test_the_chunked_head_agrees_or_refuses_by_name(loaded, kind):
    model, given = loaded(kind), batch(rows())
    full = given.logps(ResponseLogps(model))
    if kind in BENT:
        with pytest.raises(
            UserError,
            match=rf"model\.head=chunked: {type(model).__name__} scales or caps its logits",
        ):
            ResponseLogps(model, chunked=True)
    else:
        assert_close(given.logps(ResponseLogps(model, chunked=True)), full, atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", BENT)
@torch.no_grad()
def test_a_head_without_cap_or_scale_would_be_wrong_by_nats(loaded, kind):
    model = loaded(kind)
    module = ResponseLogps(model)
    full = batch(rows()).logps(module)
    module._chunked = True  # past the probe
    assert (batch(rows()).logps(module) - full).abs().max() > 0.5


@EVERY
@torch.no_grad()
def test_the_probe_finds_what_bends_the_logits_also_where_no_option_says_so(loaded, kind, monkeypatch):
    monkeypatch.setattr(logprobs, "NOT_PLAIN", ())
    if kind in PLAIN:
        ResponseLogps(loaded(kind), chunked=True)
        return
    with pytest.raises(UserError, match=type(loaded(kind)).__name__):
        ResponseLogps(loaded(kind), chunked=True)


@EVERY
def test_states_and_values_of_prompts_are_the_same_alone_and_in_a_batch(loaded, kind):
    model, prompts = loaded(kind), [prompt for prompt, _ in rows()]
    together = prompt_states(model, prompts, PAD, batch_tokens=1000)
    alone = [prompt_states(model, [prompt], PAD, batch_tokens=1000)[0] for prompt in prompts]
    torch.manual_seed(0)
    head = ValueHead(together[0].shape[1], 0.0, 1.0, dropout=0.1)
    for found, expected, prompt in zip(together, alone, prompts, strict=True):
        own = model(input_ids=torch.tensor(prompt)[None], output_hidden_states=True).hidden_states[-1][0]
        assert_close(found, expected, atol=1e-5, rtol=1e-5)
        assert_close(found, own.detach().float(), atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(predict(head, together), [predict(head, [states])[0] for states in alone], atol=1e-5, rtol=0)


@EVERY
def test_answers_are_the_same_alone_and_in_a_batch(loaded, kind):
    model, prompts = loaded(kind), [prompt for prompt, _ in rows()]

    def answers(some):
        names = [str(len(prompt)) for prompt in some]
        return respond(
            model, tokenizer(), some, names, Greedy(repetition_penalty=1.0), stream="0", max_tokens=6, stop=[], batch_tokens=1000
        )

    assert answers(prompts) == [answers([prompt])[0] for prompt in prompts]
