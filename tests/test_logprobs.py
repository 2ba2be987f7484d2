import pytest
import torch
from tiny import VOCABULARY, gpt2, llama
from torch.testing import assert_close
from transformers import CohereConfig, CohereForCausalLM, Gemma2Config, Gemma2ForCausalLM, GraniteConfig, GraniteForCausalLM

from aloll_cli.errors import UserError
from aloll_cli.models.logprobs import CHUNK, ResponseLogps, token_logps
from aloll_cli.text.encoding import left_padded, right_padded
from aloll_cli.training.batches import TokenBatch

PAD = 0
LENGTHS = [(1, 4), (7, 2), (4, 1), (12, 5)]  # tokens of prompt and response
MODELS = pytest.mark.parametrize("make", [gpt2, llama], ids=["gpt2", "llama"])


def rows(lengths=LENGTHS, seed=3):
    random = torch.Generator().manual_seed(seed)
    draw = lambda n: torch.randint(3, VOCABULARY, (n,), generator=random).numpy()  # noqa: E731
    return [(draw(p), draw(r)) for p, r in lengths]


def batch(chosen):
    prompts, responses = zip(*chosen, strict=True)
    return TokenBatch(*left_padded(prompts, PAD, "cpu"), *right_padded(responses, PAD, "cpu"))


def widened(given, left, right, fill):
    """The same batch with more columns of padding on both sides, whatever tokens stand there."""
    pad = torch.nn.functional.pad
    return TokenBatch(
        pad(given.prompt_ids, (left, 0), value=fill), pad(given.prompt_mask, (left, 0)),
        pad(given.response_ids, (0, right), value=fill), pad(given.response_mask, (0, right)),
    )  # fmt: skip


@torch.no_grad()
def oracle(model, prompt, response):
    """ln π of each token by transformers' own loss, right-padded: one label at a time, the others −100."""
    ids = torch.tensor([[*prompt, *response, PAD, PAD, PAD]])
    mask = torch.tensor([[1] * (len(prompt) + len(response)) + [0] * 3])
    losses = []
    for place in range(len(prompt), len(prompt) + len(response)):
        labels = torch.full_like(ids, -100)
        labels[0, place] = ids[0, place]
        losses.append(-model(input_ids=ids, attention_mask=mask, labels=labels).loss)
    return torch.stack(losses)


@MODELS
@torch.no_grad()
def test_log_probs_are_the_same_with_left_padding_right_padding_and_none(make):
    model, chosen = make(), rows()
    module = ResponseLogps(model)
    together = batch(chosen).logps(module)
    for i, row in enumerate(chosen):
        length = len(row[1])
        alone = batch([row]).logps(module)[0]
        assert_close(together[i, :length], alone, atol=1e-5, rtol=0)
        assert_close(alone, oracle(model, *row), atol=1e-5, rtol=0)


@MODELS
@torch.no_grad()
def test_more_padding_on_either_side_changes_nothing_whatever_stands_there(make):
    module, given = ResponseLogps(make()), batch(rows())
    expected, width = given.logps(module), given.response_ids.shape[1]
    for fill in (PAD, 17):
        wide = widened(given, left=9, right=6, fill=fill).logps(module)
        assert_close(wide[:, :width], expected, atol=1e-5, rtol=0)
        assert torch.equal(wide[:, width:], torch.zeros(len(wide), 6))


@MODELS
@torch.no_grad()
def test_padding_is_exactly_zero_and_tokens_are_below(make):
    given = batch(rows())
    logps = given.logps(ResponseLogps(make()))
    assert logps.dtype is torch.float32
    assert torch.equal(logps == 0, given.response_mask == 0)
    assert (logps <= 0).all()


@torch.no_grad()
def test_two_passes_give_the_same_bits_in_eval_and_not_with_dropout():
    module, given = ResponseLogps(gpt2(dropout=0.5)), batch(rows())
    assert torch.equal(given.logps(module), given.logps(module))
    module.train()
    assert not torch.allclose(given.logps(module), given.logps(module), atol=0.1)


@MODELS
def test_ratios_are_exactly_one_on_the_same_batch(make):
    module, given = ResponseLogps(make()), batch(rows())
    with torch.no_grad():
        behaviour = given.logps(module)
    logps = given.logps(module)
    assert logps.requires_grad
    log_ratio = logps.detach() - behaviour
    assert torch.equal(log_ratio.exp(), torch.ones_like(logps))
    assert torch.equal(log_ratio.sum(dim=-1).exp(), torch.ones(len(logps)))


def test_token_logps_are_the_log_of_the_softmax_worked_by_hand():
    # softmax of (ln 1, ln 3, ln 6) is (0.1, 0.3, 0.6); bf16 logits are normalised in fp32
    logits = torch.tensor([[[1.0, 3.0, 6.0]]]).log()
    assert_close(token_logps(logits, torch.tensor([[2]])), torch.tensor([[0.6]]).log())
    assert token_logps(logits.bfloat16(), torch.tensor([[1]])).dtype is torch.float32


@MODELS
def test_the_chunked_head_equals_the_full_one_with_gradient(make):
    # 13 × 21 response positions: more than two chunks, and the last one is not full
    given = batch(rows([(3 + i % 5, 21 - i % 3) for i in range(13)]))
    assert given.response_ids.numel() > 2 * CHUNK
    assert given.response_ids.numel() % CHUNK
    weights = torch.linspace(-1, 2, given.response_ids.numel()).view_as(given.response_ids)
    model, results = make(), []
    for chunked in (False, True):
        model.zero_grad()
        logps = given.logps(ResponseLogps(model, chunked=chunked))
        (weights * logps).sum().backward()
        results.append((logps.detach(), {name: p.grad.clone() for name, p in model.named_parameters()}))
    (full, full_grad), (chunked, chunked_grad) = results
    assert_close(chunked, full, atol=1e-5, rtol=0)
    assert full_grad.keys() == chunked_grad.keys()
    for name, gradient in full_grad.items():
        scale = float(gradient.abs().max())
        assert scale > 0
        assert_close(chunked_grad[name], gradient, atol=1e-5 * max(1.0, scale), rtol=0, msg=name)


SIZES = {
    "vocab_size": 64, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
    "num_key_value_heads": 2, "initializer_range": 0.5, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


@pytest.mark.parametrize(
    ("cls", "config"),
    [
        (Gemma2ForCausalLM, Gemma2Config(**SIZES, head_dim=8, final_logit_softcapping=30.0)),
        (CohereForCausalLM, CohereConfig(**SIZES, logit_scale=0.0625)),
        (GraniteForCausalLM, GraniteConfig(**SIZES, logits_scaling=8.0)),
    ],
    ids=["gemma2", "cohere", "granite"],
)
def test_the_chunked_head_refuses_models_that_scale_or_cap_their_logits_by_name(cls, config):
    torch.manual_seed(0)
    model = cls(config)
    assert torch.isfinite(batch([([3, 4], [5, 6])]).logps(ResponseLogps(model.eval()))).all()
    with pytest.raises(UserError, match=rf"{cls.__name__} scales or caps its logits, or .*\.\nmodel\.head=full"):
        ResponseLogps(model, chunked=True)


def test_the_probe_leaves_the_model_in_the_mode_it_found():
    for model in (llama(), llama().train()):
        was = model.training
        ResponseLogps(model, chunked=True)
        assert model.training is was
