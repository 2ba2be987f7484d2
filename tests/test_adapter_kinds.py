"""What peft offers: an adapter that is trained further is saved, loads again, opens with peft and merges, or is refused."""

import peft
import pytest
import torch
from tiny import composed, tokenizer
from torch.testing import assert_close
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from aloll_cli.errors import UserError
from aloll_cli.models import adapters
from aloll_cli.models.adapters import Given, attach, merged, save_adapter
from aloll_cli.models.base import Dtype

TARGETS = {"target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"}
IDS = torch.arange(3, 25)[None]


def lora(**options):
    return peft.LoraConfig(**(TARGETS | {"r": 4, "lora_alpha": 8} | options))


KINDS = {
    "lora": lora,
    "rank-stabilized": lambda: lora(use_rslora=True),
    "dora": lambda: lora(use_dora=True),
    "pissa": lambda: lora(init_lora_weights="pissa"),
    "ranks and scales by layer": lambda: lora(rank_pattern={"q_proj": 8}, alpha_pattern={"v_proj": 32}),
    "one layer": lambda: lora(layers_to_transform=[1]),
    "biases": lambda: lora(bias="all"),
    "saved norms": lambda: lora(modules_to_save=["norm"]),
    "saved head": lambda: lora(modules_to_save=["lm_head"]),
    "saved embeddings": lambda: lora(modules_to_save=["embed_tokens"]),
    "saved embeddings, tied": lambda: lora(modules_to_save=["embed_tokens"], ensure_weight_tying=True),
    "saved embeddings and head": lambda: lora(modules_to_save=["embed_tokens", "lm_head"]),
    "tokens in no order": lambda: lora(trainable_token_indices=[7, 5, 6]),
    "repeated layers": lambda: lora(layer_replication=[[1, 2], [0, 2]]),
    "parameters": lambda: lora(target_parameters=["self_attn.o_proj.weight"]),
    "ia3": lambda: peft.IA3Config(**(TARGETS | {"feedforward_modules": []})),
    "adalora": lambda: peft.AdaLoraConfig(**TARGETS, init_r=4, target_r=2, total_step=100),
    "loha": lambda: peft.LoHaConfig(**TARGETS, r=4),
    "lokr": lambda: peft.LoKrConfig(**TARGETS, r=4),
    "oft": lambda: peft.OFTConfig(**TARGETS, oft_block_size=4),
    "boft": lambda: peft.BOFTConfig(**TARGETS, boft_block_size=4),
    "fourierft": lambda: peft.FourierFTConfig(**TARGETS, n_frequency=20),
    "norms": lambda: peft.LNTuningConfig(task_type="CAUSAL_LM", target_modules=["norm"]),
}
FAST = {"saved embeddings, tied", "tokens in no order", "repeated layers"}
REFUSED = {
    "prompt": (lambda: peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4), "adds virtual tokens to prompts"),
    "vera": (
        lambda: peft.VeraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"], r=4),
        r"\(VERA\) keeps weights that layers",
    ),
    "alora": (lambda: lora(alora_invocation_tokens=[9, 4]), "is an aLoRA, which acts behind its invocation tokens only"),
    "head of a tied model": (lambda: lora(target_modules=["lm_head"]), "ties the weights of its head and its embeddings"),
}
ONLY_IN_32_BITS = {
    "saved norms": (KINDS["saved norms"], r"contains full layers \(norm\), which are supported in fp32 only"),
    "norms": (KINDS["norms"], "changes layers as a whole, which is supported in fp32 only"),
}


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    """Folders of a model whose head is its embeddings, and of one with a head of its own."""
    folders = {}
    for name, tied in (("tied", True), ("untied", False)):
        torch.manual_seed(0)
        folders[name] = tmp_path_factory.mktemp(name)
        config = LlamaConfig(
            vocab_size=320, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, pad_token_id=0,
            max_position_embeddings=64, initializer_range=0.2, tie_word_embeddings=tied,
        )  # fmt: skip
        LlamaForCausalLM(config).save_pretrained(folders[name])
        tokenizer().save_pretrained(folders[name])
    return folders


def opened(folder, dtype=torch.float32):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)


def published(base, config, folder):
    """An adapter with random weights in every part, as peft saves it; gives the logits of its model."""
    torch.manual_seed(1)
    model = peft.get_peft_model(opened(base), config)
    for weight in model.parameters():
        if weight.requires_grad and weight.is_floating_point():
            weight.data += 0.1 * torch.randn_like(weight)
    model.save_pretrained(folder)
    return logits(model)


@torch.no_grad()
def logits(model):
    return model.eval()(IDS).logits


def step(model):
    optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], lr=1e-2)
    model.train()(IDS, labels=IDS).loss.backward()
    optimizer.step()


@pytest.mark.parametrize("tying", ["tied", "untied"])
@pytest.mark.parametrize("kind", [pytest.param(kind, marks=() if kind in FAST else pytest.mark.slow) for kind in KINDS])
def test_an_adapter_is_trained_further_saved_loaded_and_merged(bases, tmp_path, kind, tying):
    base = bases[tying]
    expected = published(base, KINDS[kind](), tmp_path / "published")
    model = opened(base)
    attach(model, str(tmp_path / "published"))
    assert_close(logits(model), expected, atol=1e-6, rtol=0)
    Given().prepare(model, 1)
    assert_close(logits(model), expected, atol=1e-6, rtol=0)
    step(model)
    trained = logits(model)
    assert (trained - expected).abs().max() > 1e-3
    save_adapter(model, tmp_path / "saved")
    again = opened(base)
    attach(again, str(tmp_path / "saved"))
    assert_close(logits(again), trained, atol=1e-6, rtol=0)
    assert_close(logits(peft.PeftModel.from_pretrained(opened(base), tmp_path / "saved")), trained, atol=1e-6, rtol=0)
    merged(opened(base), tmp_path / "saved").save_pretrained(tmp_path / "merged")
    assert_close(logits(opened(tmp_path / "merged")), trained, atol=2e-5, rtol=0)


@pytest.mark.parametrize("kind", REFUSED)
def test_an_adapter_that_cannot_be_trained_is_refused_with_the_reason(bases, tmp_path, kind):
    make, why = REFUSED[kind]
    published(bases["tied"], make(), tmp_path)
    with pytest.raises(UserError, match=why) as raised:
        attach(opened(bases["tied"]), str(tmp_path))
    assert "adapter" in raised.value.args[1]


@pytest.mark.parametrize("kind", ONLY_IN_32_BITS)
def test_whole_layers_in_16_bits_are_refused_with_what_helps(bases, tmp_path, kind):
    make, why = ONLY_IN_32_BITS[kind]
    published(bases["tied"], make(), tmp_path)
    with pytest.raises(UserError, match=why) as raised:
        attach(opened(bases["tied"], torch.bfloat16), str(tmp_path))
    assert raised.value.args[1] == "model.dtype=float32"


def test_an_adapter_that_loses_weights_when_it_is_saved_is_refused_before_it_is_trained(bases, tmp_path, monkeypatch):
    published(bases["tied"], lora(), tmp_path)
    model = opened(bases["tied"])
    attach(model, str(tmp_path))
    before = logits(model)
    load = adapters._load_weights

    def forgetting(model, folder):
        found = load(model, folder)
        next(weight for name, weight in model.named_parameters() if "lora_B" in name).data.zero_()
        return found

    monkeypatch.setattr(adapters, "_load_weights", forgetting)
    with pytest.raises(UserError, match=r"peft cannot load what it saves of this adapter \(.*lora_B.*\), so it would be trained"):
        Given().prepare(model, 1)
    assert torch.equal(logits(model), before)


def test_an_adapter_that_cannot_be_merged_is_found_before_it_is_trained_and_exported(bases, tmp_path):
    published(bases["tied"], lora(lora_bias=True), tmp_path / "biased")
    published(bases["tied"], lora(), tmp_path / "plain")
    models = {
        name: composed(
            "model=pretrained", f"model.path={bases['tied']}", f"model.adapter={tmp_path / name}", "adapter=pretrained"
        ).model
        for name in ("biased", "plain")
    }
    assert {model.dtype for model in models.values()} == {Dtype.float32}
    models["plain"].check_merge()
    with pytest.raises(UserError, match="peft cannot merge this adapter into LlamaForCausalLM: Impossible to merge") as raised:
        models["biased"].check_merge()
    assert raised.value.args[1] == "merge=false"
