"""Every option of which config.yaml says that it changes no result by more than rounding: weights stay, with dropout too."""

import re
from functools import cache
from importlib.resources import files
from types import SimpleNamespace

import pytest
import torch
from running import quick
from safetensors.torch import load_file
from test_logprobs import batch, rows
from tiny import composed, gpt2, llama, opened, reviews, some_slow, tokenizer
from torch import nn
from torch.testing import assert_close

from aloll_cli.artifacts.pipeline import Pipeline
from aloll_cli.errors import UserError
from aloll_cli.models.dropout import RowDropout
from aloll_cli.models.logprobs import ResponseLogps

SAID = "# None of the following changes a result by more than rounding."
VALUES = {  # another value than the default
    "output_dir": "elsewhere", "plugins": "[{plugin}]", "upstream": "require", "busy": "refuse", "verbosity": "quiet",
    "processes": 2, "strategy": "fsdp", "device": "cpu", "threads": 2, "micro_batch_size": 3, "gradient_checkpointing": "true",
    "deterministic": "true", "attn": "eager", "scoring_batch_tokens": 60, "generation_batching": "continuous",
    "checkpoint_every": 1, "keep_checkpoints": 2, "max_hours": 5,
}  # fmt: skip
OF_A_COMMAND = ("processes", "threads")  # what a command does before it trains
SHORT = [
    "model=pretrained", "reference=pretrained", "generation=greedy", "values=constant", "values.value=0.1", "variant=nll",
    "task.max_response_tokens=12", "updates=4", "batch_size=8", "micro_batch_size=16", "eval_every=4", "eval_prompts=2",
    "threads=1", "optimizer.lr=1e-2", "optimizer.eps=1e-3",
]  # fmt: skip
MODELS = {"llama": ("adapter=lora", "adapter.dropout=0.3"), "gpt2": ()}  # GPT-2 drops embeddings, attention and states


def options_said_to_round():
    text = (files("aloll_cli.conf") / "config.yaml").read_text()
    assert SAID in text
    return re.findall(r"^(\w+):", text.split(SAID)[1].split("\nhydra:")[0], re.MULTILINE)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("rounding")
    reviews(root / "rows")
    for name, make in (("llama", llama), ("gpt2", gpt2)):
        make().save_pretrained(root / name)
        tokenizer().save_pretrained(root / name)
    (root / "plugin").mkdir()
    return root


def options_of(place, model):
    return [f"task.path={place / 'rows'}", *SHORT, f"model.path={place / model}", *MODELS[model]]


def weights_in(folder):
    (file,) = [file for file in (folder / "policy").glob("*.safetensors")]
    return load_file(file)


@pytest.fixture(scope="module")
def trained(place):
    """Trained weights by model and overrides."""

    @cache
    def train(model, *overrides):
        settings = composed(*options_of(place, model), *overrides)
        return weights_in(opened(place / f"out {model} {overrides}", settings.runtime).ensure(Pipeline(settings).policy))

    return train


def test_the_table_of_this_test_has_every_such_option():
    assert list(VALUES) == options_said_to_round()


@pytest.mark.parametrize("option", some_slow(VALUES))
def test_no_such_option_is_part_of_a_recipe(place, option):
    given = f"{option}={VALUES[option]}".format(plugin=place / "plugin")
    plain, other = (Pipeline(composed(*options_of(place, "llama"), *more)).metrics.fingerprint for more in ((), (given,)))
    assert other == plain


def assert_same(weights, others, start=None):
    assert weights.keys() == others.keys()
    for name, weight in weights.items():
        assert_close(others[name], weight, atol=1e-5, rtol=0, msg=name)


COMPUTED = [option for option in VALUES if option not in OF_A_COMMAND and option not in ("output_dir", "plugins", "upstream")]


@pytest.mark.slow
@pytest.mark.parametrize("option", COMPUTED)
@pytest.mark.parametrize("model", MODELS)
def test_no_such_option_changes_what_is_trained(trained, model, option):
    assert_same(trained(model), trained(model, f"{option}={VALUES[option]}"))


@pytest.mark.slow
@pytest.mark.parametrize("option", OF_A_COMMAND)
@pytest.mark.parametrize("model", MODELS)
def test_neither_threads_nor_processes_change_what_is_trained(place, trained, tmp_path, model, option):
    quick(tmp_path, "train", *options_of(place, model), f"{option}={VALUES[option]}", f"output_dir={tmp_path}")
    (policy,) = (tmp_path / "reviews" / "policy").iterdir()
    assert_same(trained(model), weights_in(policy))


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_dropout_changes_what_is_trained_and_so_does_the_seed(trained, place, model):
    without = trained(model, *(["adapter.dropout=0"] if model == "llama" else ["variant=ref_free", "weight_loss=false"]))
    seeds = trained(model, "seed=2")
    for others in (without, seeds):
        assert max(float((others[name] - weight).abs().max()) for name, weight in trained(model).items()) > 1e-3


def lengths_of(chosen):
    return [len(prompt) + len(response) for prompt, response in chosen]


@pytest.mark.parametrize("recompute", [False, True])
def test_the_loss_and_gradient_of_a_row_are_the_same_alone_and_among_others(recompute):
    chosen = rows([(3, 9), (12, 2), (5, 5), (1, 8)])
    model = gpt2(dropout=0.3)
    model.set_attn_implementation("eager")
    module = ResponseLogps(model, recompute=recompute)
    module.set_to_train(dropout=True)
    found = []
    for sizes in ([4], [1, 3]):
        module.zero_grad()
        losses, start = [], 0
        for size in sizes:
            part = range(start, start + size)
            with RowDropout(module, [f"1 7 {i}" for i in part], lengths_of(chosen[start : start + size])):
                loss = batch(chosen[start : start + size]).logps(module).sum(dim=1)
                loss.sum().backward()
            losses.append(loss.detach())
            start += size
        found.append((torch.cat(losses), module.model.transformer.wte.weight.grad.clone()))
    (whole, gradient), (parts, others) = found
    assert_close(parts, whole, atol=1e-5, rtol=1e-6)
    assert_close(others, gradient, atol=1e-4, rtol=1e-4)
    with torch.no_grad():
        module.eval()
        assert (batch(chosen).logps(module).sum(dim=1) - whole).abs().min() > 1e-2


def test_recomputed_layers_get_the_masks_of_the_forward_pass():
    chosen, gradients = rows([(3, 9), (12, 2)]), []
    for recompute in (False, True):
        module = ResponseLogps(gpt2(dropout=0.3), recompute=recompute)
        module.model.set_attn_implementation("eager")
        module.set_to_train(dropout=True)
        with RowDropout(module, ["a", "b"], lengths_of(chosen)):
            batch(chosen).logps(module).sum().backward()
        gradients.append({name: weight.grad for name, weight in module.named_parameters()})
    for name, gradient in gradients[0].items():
        assert_close(gradients[1][name], gradient, atol=1e-4, rtol=1e-4, msg=name)


def drawn(call, keys, lengths):
    """What a function returns when a module calls it."""
    module = SimpleNamespace(dropout=None)
    with RowDropout(module, keys, lengths), module.dropout.in_forward():
        return call()


def test_masks_keep_their_share_of_real_tokens_and_scale_them():
    states = torch.ones(2, 500, 40)
    draw = lambda: [nn.functional.dropout(states, 0.3, training=trains) for trains in (True, True, False)]  # noqa: E731
    first, second, nothing = drawn(draw, ["a", "b"], [500, 300])
    assert torch.equal(nothing, states)
    for kept in (first[0], first[1, :300]):
        assert kept.unique().tolist() == pytest.approx([0, 1 / 0.7])
        assert float((kept > 0).float().mean()) == pytest.approx(0.7, abs=0.02)
    for one, other in ((first[0], second[0]), (first[0, :300], first[1, :300]), (first[0, :, 0], first[0, :, 1])):
        assert float(((one > 0) == (other > 0)).float().mean()) == pytest.approx(0.7**2 + 0.3**2, abs=0.1)  # independent


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (
            lambda: nn.functional.scaled_dot_product_attention(*[torch.ones(1, 2, 3, 4)] * 3, dropout_p=0.1),
            "drops attention weights",
        ),
        (lambda: torch.rand(3), r"draws random numbers per micro-batch \(rand\)"),
        (lambda: nn.functional.dropout(torch.ones(5, 6, 7), 0.1), r"applies dropout to a tensor of shape \(5, 6, 7\)"),
    ],
    ids=["fused attention", "other numbers", "no rows"],
)
def test_what_cannot_be_drawn_by_row_is_refused_by_name(draw, message):
    with pytest.raises(UserError, match=message):
        drawn(draw, ["a"], [3])
    assert torch.rand(2).shape == (2,)  # and nothing is intercepted any more


@pytest.mark.slow
def test_fused_attention_that_drops_is_refused_before_training_and_replaced_where_nothing_was_asked_for(place, tmp_path, capsys):
    asked = composed(*options_of(place, "gpt2"), "attn=sdpa")
    with pytest.raises(UserError, match="attn=sdpa: GPT2LMHeadModel is trained with dropout of its attention weights") as raised:
        opened(tmp_path, asked.runtime).ensure(Pipeline(asked).policy)
    assert raised.value.args[1].startswith("attn=eager")
    free = composed(*options_of(place, "gpt2"), "updates=1")
    opened(tmp_path, free.runtime).ensure(Pipeline(free).policy)
    assert "attention: eager, because GPT2LMHeadModel is trained with dropout" in capsys.readouterr().err
