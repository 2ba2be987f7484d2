"""A prompt of several responses is computed once: the same log-probs and gradients, with fewer tokens."""

import pytest
import torch
from test_architectures import BENT, PAD, PLAIN, SIZES
from tiny import VOCABULARY, gpt2, llama
from torch.testing import assert_close
from transformers import BloomConfig, BloomForCausalLM, MambaConfig, MambaForCausalLM, OPTConfig, OPTForCausalLM

from aloll_cli.models.layout import shared
from aloll_cli.models.logprobs import ResponseLogps
from aloll_cli.text.encoding import left_padded, right_padded
from aloll_cli.training.batches import TokenBatch

APART = "for this test"


def batch() -> TokenBatch:
    """Seven responses to three prompts, in no order; one prompt has a single one."""
    random = torch.Generator().manual_seed(5)
    draw = lambda n: torch.randint(3, VOCABULARY, (n,), generator=random).numpy()  # noqa: E731
    prompts = [draw(9), draw(12), draw(2)]
    rows = [(prompts[i], draw(n)) for i, n in ((0, 3), (1, 5), (0, 1), (2, 4), (1, 2), (0, 6), (1, 5))]
    return TokenBatch(*left_padded([p for p, _ in rows], PAD, "cpu"), *right_padded([r for _, r in rows], PAD, "cpu"))


def results(model, separately: bool, chunked: bool = False):
    """Log-probs, gradients of a sum of them, and the shape of what the model has computed."""
    module, seen = ResponseLogps(model, chunked=chunked, shares=True), []
    module.separate_because = APART if separately else module.separate_because
    weights = torch.linspace(-1, 2, batch().response_ids.numel()).view_as(batch().response_ids)
    module(*vars(batch()).values())  # the trial is over
    handle = model.get_input_embeddings().register_forward_hook(lambda module, given, out: seen.append(tuple(out.shape[:2])))
    model.zero_grad()
    logps = batch().logps(module)
    (weights * logps).sum().backward()
    handle.remove()
    return module, logps.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}, seen


@pytest.mark.parametrize("chunked", [False, True], ids=["full", "chunked"])
@pytest.mark.parametrize("make", [gpt2, llama], ids=["gpt2", "llama"])
def test_log_probs_and_gradients_are_those_of_separate_rows(make, chunked):
    model = make().eval()
    _, expected, gradients, rows = results(model, separately=True, chunked=chunked)
    module, logps, found, fewer = results(model, separately=False, chunked=chunked)
    assert module.separate_because is None
    assert rows == [(7, 17)]
    assert fewer == [(3, 24)]  # the longest: a prompt of 12 and responses of 5, 2 and 5
    assert_close(logps, expected, atol=1e-5, rtol=0)
    assert torch.equal(logps == 0, batch().response_mask == 0)
    for name, gradient in gradients.items():
        assert_close(found[name], gradient, atol=1e-5 * max(1.0, float(gradient.abs().max())), rtol=0, msg=name)


@pytest.mark.parametrize("make", (PLAIN | BENT).values(), ids=PLAIN | BENT)
def test_every_architecture_shares_prompts_or_says_why_not(make):
    torch.manual_seed(0)
    model = make().eval()
    with torch.no_grad():
        module, apart = ResponseLogps(model, shares=True), ResponseLogps(model)
        apart.separate_because = APART
        assert_close(batch().logps(module), batch().logps(apart), atol=2e-5, rtol=1e-5)
    kinds = set(getattr(model.config.get_text_config(), "layer_types", None) or []) - {"full_attention"}
    assert (module.separate_because is None) == (not kinds)
    assert not kinds or "has layers of sliding_attention" in module.separate_because


def test_models_whose_states_or_positions_pass_from_one_response_to_the_next_compute_rows_apart():
    small = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "initializer_range": 0.5}
    bloom = BloomForCausalLM(BloomConfig(vocab_size=VOCABULARY, hidden_size=32, n_layer=2, n_head=2, initializer_range=0.5))
    mamba = MambaForCausalLM(MambaConfig(**small))
    opt = OPTForCausalLM(OPTConfig(**SIZES | {"max_position_embeddings": 64}, ffn_dim=64, word_embed_proj_dim=32, init_std=0.5))
    for model in (bloom, mamba, opt):
        model.eval()
        with torch.no_grad():
            module, apart = ResponseLogps(model, shares=True), ResponseLogps(model)
            apart.separate_because = APART
            assert_close(batch().logps(module), batch().logps(apart), atol=2e-5, rtol=1e-5)
    for model in (bloom, mamba):
        module = ResponseLogps(model, shares=True)
        assert not module.may_share(torch.device("cpu"))
        assert type(model).__name__ in module.separate_because


def test_rows_stay_separate_where_that_costs_as_much_and_in_16_bits():
    ids = torch.arange(3, 27).view(2, 12)
    ones = torch.ones_like(ids)
    assert shared(ids, ones, ids, ones) is None  # two prompts
    assert shared(ids[[0, 0, 1]][:, :2], ones[[0, 0, 1]][:, :2], ids[[0, 1, 1]], ones[[0, 1, 1]]) is None  # short prompts
    assert shared(ids[[0, 0]], ones, ids[:, :4], ones[:, :4]) is not None
    assert "16 bits" in ResponseLogps(llama().to(torch.bfloat16), shares=True).separate_because
    module = ResponseLogps(llama(), shares=True)
    with torch.autocast("cpu", torch.bfloat16):
        assert not module.may_share(torch.device("cpu"))
