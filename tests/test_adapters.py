"""LoRA, 4 bits, bf16 and 8-bit optimizers: what trains, what π_ref is, what is saved, and how it goes on after a kill."""

import dataclasses
import gc
import json
import re
import shutil
import signal
from functools import cache

import pytest
import torch
from running import quick
from safetensors.torch import load_file, save_file
from tiny import composed, gpt2, llama, opened, reviews, tokenizer
from torture import contents
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from aloll_cli.artifacts.generations import load_generations
from aloll_cli.artifacts.pipeline import Pipeline
from aloll_cli.artifacts.reference_logps import LogpTable
from aloll_cli.command import Command
from aloll_cli.errors import UserError
from aloll_cli.files import read_json_lines
from aloll_cli.models.adapters import attach, has_adapter
from aloll_cli.models.logprobs import ResponseLogps
from aloll_cli.models.saving import load_tokenizer
from aloll_cli.reports.model_card import Exported, _use
from aloll_cli.runtime.world import Alone
from aloll_cli.stages import export
from aloll_cli.stopping import Interrupted, Stopper
from aloll_cli.store.store import Job, Store
from aloll_cli.text.examples import ExampleTable
from aloll_cli.training.batches import batch_logps
from aloll_cli.training.loop import Trainer

SHORT = [
    "model=pretrained", "reference=pretrained", "generation=greedy", "values=constant", "values.value=0.1", "updates=4",
    "task.max_response_tokens=12", "batch_size=8", "micro_batch_size=3", "eval_every=2", "checkpoint_every=2", "eval_prompts=2",
    "resamples=10", "optimizer.lr=0.05", "threads=1",
]  # fmt: skip
LORA = ("adapter=lora", "adapter.r=4", "adapter.dropout=0.3")
NF4 = (*LORA, "model.quantization=nf4")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Rows, a Llama, and an adapter of it that somebody trained."""
    root = tmp_path_factory.mktemp("adapters")
    reviews(root / "rows", others=12)
    llama().save_pretrained(root / "model")
    tokenizer().save_pretrained(root / "model")
    published = AutoModelForCausalLM.from_pretrained(root / "model")
    composed("adapter=lora", "adapter.r=3").adapter.add(published, seed=7)
    with torch.no_grad():
        for weight in published.parameters():
            if weight.requires_grad:
                weight.normal_(std=0.1)
    published.save_pretrained(root / "adapter")
    return root


@pytest.fixture(scope="module")
def options(folder):
    return [f"task.path={folder / 'rows'}", f"model.path={folder / 'model'}", *SHORT]


@pytest.fixture(scope="module")
def line(folder, options):
    """The line of some overrides and its store, its evaluation made once."""

    @cache
    def made(*overrides):
        settings = composed(*options, *overrides)
        store = opened(folder / ("out " + " ".join(overrides).replace("/", "-")), settings.runtime)
        store.ensure(Pipeline(settings).metrics)
        return Pipeline(settings), store

    return made


def working(store):
    return Job(store.root, store, store.runtime, store.world, store.log, store.stopper)


def logps_of(model, line, store):
    """ln π of the first training responses that were drawn, under a model."""
    examples = ExampleTable(store.path(line.examples) / "train")
    pad = load_tokenizer(store.path(line.tokenizer)).pad_token_id
    rows = LogpTable(store.path(line.reference_logps)).rows[:6].tolist()
    return torch.cat([torch.tensor(row) for row in batch_logps(ResponseLogps(model), examples, rows, pad, 200)])


def stored_logps(line, store):
    table = LogpTable(store.path(line.reference_logps))
    return torch.cat([torch.tensor(table.row(i)) for i in table.rows[:6]])


def first_update(line, store):
    return read_json_lines(store.path(line.policy) / "metrics.jsonl")[0]


def greedy(model, line, store):
    """Answers to the test prompts, one by one."""
    tokens = load_tokenizer(store.path(line.tokenizer))
    examples = ExampleTable(store.path(line.examples) / "test")
    answers = []
    for row in examples.groups[1]:
        ids = torch.tensor(examples.prompt_ids(int(row)))[None]
        new = model.generate(ids, max_new_tokens=12, do_sample=False, attention_mask=torch.ones_like(ids))[0, ids.shape[1] :]
        answers.append(tokens.decode(new, skip_special_tokens=True))
    return answers


@pytest.mark.slow
def test_lora_trains_its_matrices_from_ratios_of_one_and_leaves_the_model_alone(line):
    made, store = line(*LORA)
    policy = made.policy.load(working(store))
    before = AutoModelForCausalLM.from_pretrained(made.settings.model.path, dtype=torch.float32).state_dict()
    after = {name.replace(".base_layer", ""): weight for name, weight in policy.state_dict().items() if "lora" not in name}
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert {name.split(".")[-3] for name, weight in policy.named_parameters() if weight.requires_grad} == {"lora_A", "lora_B"}
    assert first_update(made, store)["ratio"] == pytest.approx(1, abs=1e-5)
    torch.testing.assert_close(stored_logps(made, store), logps_of(llama(), made, store), atol=1e-5, rtol=0)
    assert (logps_of(policy, made, store) - stored_logps(made, store)).abs().max() > 0.01


@pytest.mark.slow
def test_a_policys_folder_opens_with_transformers_and_with_peft_and_answers_as_it_was_evaluated(line):
    from peft import PeftModel

    made, store = line(*LORA)
    folder = store.path(made.policy) / "policy"
    assert not (folder / "model.safetensors").exists()
    evaluated = load_generations(store.path(made.metrics.policy.generations)).column("response").to_pylist()
    reference = load_generations(store.path(made.metrics.reference.generations)).column("response").to_pylist()
    base = AutoModelForCausalLM.from_pretrained(made.settings.model.path, dtype=torch.float32)
    assert greedy(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), made, store) == evaluated
    assert greedy(PeftModel.from_pretrained(base, folder), made, store) == evaluated
    assert evaluated != reference


TRAINED = ("reference=trained", "reference.updates=2", "reference.eval_every=2", "reference.batch_size=8")
ONLINE = (*LORA, *TRAINED, "variant=ppo", "variant.rollout_size=8", "variant.epochs=1")


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides", [LORA, NF4, (), (*LORA, "model.dtype=bfloat16"), ONLINE], ids=["lora", "nf4", "full", "bf16", "ppo"]
)
def test_one_model_is_in_memory_while_a_policy_trains(folder, options, tmp_path, monkeypatch, overrides):
    counted = []
    update = Trainer.step

    def counting(self, number):
        counted.append(sum(isinstance(thing, LlamaForCausalLM) for thing in gc.get_objects()))
        return update(self, number)

    monkeypatch.setattr(Trainer, "step", counting)
    gc.collect()
    others = sum(isinstance(thing, LlamaForCausalLM) for thing in gc.get_objects())
    settings = composed(*options, *overrides)
    opened(tmp_path, settings.runtime).ensure(Pipeline(settings).policy)
    assert len(counted) >= 4
    assert set(counted) == {others + 1}


@pytest.mark.slow
def test_four_bits_hold_the_linear_layers_and_both_sides_of_the_ratio_are_of_four_bits(line):
    from bitsandbytes.nn import Linear4bit

    made, store = line(*NF4)
    policy = made.policy.load(working(store))
    quantized = [part for part in policy.modules() if isinstance(part, Linear4bit)]
    assert len(quantized) == 14
    assert all(part.weight.dtype == torch.uint8 for part in quantized)
    assert all(part.weight.quant_state.nested and part.weight.quant_state.quant_type == "nf4" for part in quantized)
    assert first_update(made, store)["ratio"] == pytest.approx(1, abs=1e-4)
    assert (stored_logps(made, store) - logps_of(llama(), made, store)).abs().max() > 0.01


@pytest.mark.slow
def test_an_adapter_that_is_there_is_trained_further_and_is_pi_ref_as_it_was(line, folder):
    made, store = line("adapter=pretrained", f"model.adapter={folder / 'adapter'}")
    start = llama()
    plain = logps_of(start, made, store)
    attach(start, str(folder / "adapter"))
    torch.testing.assert_close(stored_logps(made, store), logps_of(start.eval(), made, store), atol=1e-5, rtol=0)
    assert (stored_logps(made, store) - plain).abs().max() > 0.01
    assert first_update(made, store)["ratio"] == pytest.approx(1, abs=1e-5)
    assert json.loads((store.path(made.policy) / "policy" / "adapter_config.json").read_text())["r"] == 3


@pytest.mark.slow
def test_a_reference_is_trained_as_the_adapter_that_the_policy_goes_on_with(line):
    trained = ("reference=trained", "reference.updates=3", "reference.eval_every=3", "reference.batch_size=4")
    made, store = line(*LORA, *trained, "reference.optimizer.lr=0.05")
    reference = made.reference.load(working(store))
    assert has_adapter(reference)
    assert not (store.path(made.reference) / "policy" / "model.safetensors").exists()
    torch.testing.assert_close(stored_logps(made, store), logps_of(reference, made, store), atol=1e-5, rtol=0)
    assert (stored_logps(made, store) - logps_of(llama(), made, store)).abs().max() > 0.01
    assert first_update(made, store)["ratio"] == pytest.approx(1, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("overrides", [LORA, NF4], ids=["lora", "nf4"])
def test_a_merged_export_is_the_same_policy_and_its_card_says_what_it_is(line, tmp_path, overrides):
    made, store = line(*overrides)
    export.run(dataclasses.replace(made.settings, to=str(tmp_path / "exported")), store)
    exported = AutoModelForCausalLM.from_pretrained(tmp_path / "exported")
    assert not has_adapter(exported)
    assert not hasattr(exported.config, "quantization_config")
    policy = logps_of(made.policy.load(working(store)), made, store)
    torch.testing.assert_close(logps_of(exported.eval(), made, store), policy, atol=1e-4, rtol=0)
    card = (tmp_path / "exported" / "README.md").read_text()
    metrics = json.loads((store.path(made.metrics) / "metrics.json").read_text())
    low, high = metrics["gain"]["ci95"]
    assert f"{metrics['gain']['mean']:+.3f}, 95% confidence interval [{low:.3f}, {high:.3f}]" in card
    for said in ("`seq`", "`reviews`", "`vader`", made.policy.fingerprint, made.reference.folder):
        assert said.strip("`") in card


@pytest.mark.slow
def test_the_same_bits_come_out_after_a_kill(line, options, folder, tmp_path):
    made, store = line(*LORA)
    outputs = [*options, *LORA, f"output_dir={tmp_path / 'outputs'}"]
    quick(tmp_path, "train", *outputs, die_at=r"/policy/.*/\.update-0000004\.tmp$", code=-signal.SIGKILL)
    _, said = quick(tmp_path, "train", *outputs)
    assert "resumed after step 2 of 4" in said
    (killed,) = (tmp_path / "outputs" / "reviews" / "policy").iterdir()
    expected, found = contents(store.path(made.policy)), contents(killed)
    assert found.keys() == expected.keys()
    # one names the outputs, and the other says whether the tokenizer was loaded offline
    assert {name for name in expected if found[name] != expected[name]} <= {"config.yaml", "policy/tokenizer_config.json"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides", [("optimizer.eight_bit=true",), ("optimizer.paged=true", *LORA)], ids=["eight_bit", "paged"]
)
def test_the_optimizers_state_survives_a_stop(line, options, tmp_path, overrides):
    made, store = line(*overrides)
    settings, stopper = composed(*options, *overrides), Stopper(None)
    policy = Pipeline(settings).policy
    stopped = Store(tmp_path, settings.runtime, Alone(), stopper, Command("run"), {})
    for needed in policy.inputs().values():
        stopped.ensure(needed)
    stopper._note(signal.SIGTERM, None)
    partial = stopped.path(policy).with_name(stopped.path(policy).name + ".partial")
    partial.mkdir(parents=True)
    with pytest.raises(Interrupted):
        policy.make(Job(partial, stopped, settings.runtime, Alone(), stopped.log, stopper))
    assert [folder.name for folder in (partial / "checkpoints").iterdir()] == ["update-0000001"]
    again = opened(tmp_path, settings.runtime).ensure(policy)
    mine, theirs = contents(again / "policy"), contents(store.path(made.policy) / "policy")
    assert mine.keys() == theirs.keys()
    assert all(mine[name] == theirs[name] for name in mine if name.endswith(".safetensors"))


def test_eight_bits_are_used_where_a_matrix_is_large_enough():
    optimizer = composed("optimizer.eight_bit=true").optimizer.build(llama().parameters())
    assert optimizer.args.optim_bits == 8
    assert optimizer.param_groups[0]["weight_decay"] == 0.01
    model = llama()
    optimizer = composed("optimizer.eight_bit=true", "optimizer.weight_decay=0").optimizer.build(model.parameters())
    model(torch.arange(3, 9)[None], labels=torch.arange(3, 9)[None]).loss.backward()
    optimizer.step()
    assert optimizer.state[model.model.embed_tokens.weight]["state1"].dtype == torch.uint8
    assert optimizer.param_groups[0]["weight_decay"] == 0


@pytest.mark.slow
def test_layers_that_are_computed_again_change_no_update(line):
    kept, kept_store = line(*LORA)
    again, store = line(*LORA, "gradient_checkpointing=true")
    figures = [read_json_lines(s.path(one.policy) / "metrics.jsonl") for one, s in ((kept, kept_store), (again, store))]
    assert len(figures[0]) == 4
    for one, other in zip(*figures, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)
        assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-4)
    assert again.policy.fingerprint == kept.policy.fingerprint


@pytest.mark.slow
def test_layers_are_computed_again_although_dropout_is_off(options, tmp_path, monkeypatch):
    from transformers.models.gpt2.modeling_gpt2 import GPT2MLP

    gpt2(dropout=0.5).save_pretrained(tmp_path / "gpt2")
    tokenizer().save_pretrained(tmp_path / "gpt2")
    calls, modes, forward, update = [], [], GPT2MLP.forward, Trainer.step

    def counted(self, states):
        calls.append(self.dropout.training)
        return forward(self, states)

    def marked(self, number):
        calls.clear()
        figures = update(self, number)
        modes.append((len(calls), any(calls)))
        return figures

    monkeypatch.setattr(GPT2MLP, "forward", counted)
    monkeypatch.setattr(Trainer, "step", marked)
    for again in ("false", "true"):
        settings = composed(*options, f"model.path={tmp_path / 'gpt2'}", f"gradient_checkpointing={again}", "batch_size=3")
        opened(tmp_path / again, settings.runtime).ensure(Pipeline(settings).policy)
    assert modes == [(2, False)] * 4 + [(4, False)] * 4  # two layers, once and twice; no dropout


@pytest.mark.slow
def test_bf16_halves_what_stays_and_keeps_what_trains_in_32_bits(line):
    made, store = line(*LORA, "model.dtype=bfloat16")
    types = {weight.requires_grad: weight.dtype for weight in made.policy.load(working(store)).parameters()}
    assert types == {True: torch.float32, False: torch.bfloat16}
    whole, store = line("model.dtype=bfloat16")
    assert {weight.dtype for weight in whole.policy.load(working(store)).parameters()} == {torch.bfloat16}
    saved = AutoModelForCausalLM.from_pretrained(store.path(whole.policy) / "policy", dtype="auto")
    assert {weight.dtype for weight in saved.parameters()} == {torch.float32}
    assert first_update(whole, store)["ratio"] == pytest.approx(1, abs=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("overrides", [(*LORA, "model.dtype=bfloat16"), (*NF4, "model.dtype=bfloat16")], ids=["bf16", "nf4"])
def test_what_is_loaded_is_what_was_saved_to_the_last_bit(line, overrides):
    made, store = line(*overrides)
    weights = {name: weight for name, weight in made.policy.load(working(store)).named_parameters() if weight.requires_grad}
    saved = load_file(store.path(made.policy) / "policy" / "adapter_model.safetensors")
    assert len(saved) == len(weights) == 28
    for name, weight in saved.items():
        loaded = weights[name.removeprefix("base_model.model.").replace(".weight", ".default.weight")]
        assert torch.equal(loaded, weight), name
        assert not torch.equal(weight, weight.bfloat16().float())


@pytest.mark.slow
@pytest.mark.parametrize("trouble", ["another name", "another size"])
def test_an_adapter_that_does_not_fit_is_refused(options, folder, tmp_path, trouble):
    shutil.copytree(folder / "adapter", tmp_path / "other")
    file = tmp_path / "other" / "adapter_model.safetensors"
    weights = load_file(file)
    changed = {
        "another name": {name.replace("layers.1", "layers.7"): weight for name, weight in weights.items()},
        "another size": {name: torch.cat([weight, weight], dim=1) for name, weight in weights.items()},
    }
    save_file(changed[trouble], file)
    settings = composed(*options, "adapter=pretrained", f"model.adapter={tmp_path / 'other'}")
    with pytest.raises(UserError, match=r"other is not an adapter for this LlamaForCausalLM\."):
        opened(tmp_path, settings.runtime).ensure(Pipeline(settings).policy)


@pytest.mark.slow
def test_a_head_that_is_the_embeddings_gets_no_adapter(options, tmp_path):
    gpt2().save_pretrained(tmp_path / "tied")
    tokenizer().save_pretrained(tmp_path / "tied")
    settings = composed(*options, *LORA, f"model.path={tmp_path / 'tied'}", "adapter.targets=[c_attn,lm_head]")
    with pytest.raises(UserError, match="GPT2LMHeadModel ties the weights of its head and its embeddings"):
        opened(tmp_path, settings.runtime).ensure(Pipeline(settings).policy)


@pytest.mark.slow
def test_an_exported_adapter_opens_from_anywhere(line, tmp_path, monkeypatch):
    made, store = line(*LORA)
    export.run(dataclasses.replace(made.settings, to=str(tmp_path / "exported"), merge=False), store)
    policy = logps_of(made.policy.load(working(store)), made, store)
    monkeypatch.chdir(tmp_path)
    exported = AutoModelForCausalLM.from_pretrained("exported", dtype=torch.float32)
    torch.testing.assert_close(logps_of(exported.eval(), made, store), policy, atol=1e-5, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("overrides", [LORA, (*LORA, "merge=true"), ("model.dtype=bfloat16",)], ids=["lora", "merged", "full"])
def test_the_lines_in_the_card_load_the_policy_as_it_was_evaluated(line, tmp_path, monkeypatch, overrides):
    merges = "merge=true" in overrides
    made, store = line(*(override for override in overrides if override != "merge=true"))
    export.run(dataclasses.replace(made.settings, to=str(tmp_path / "exported"), merge=merges), store)
    card = (tmp_path / "exported" / "README.md").read_text()
    monkeypatch.chdir(tmp_path / "exported")
    found = {}
    exec(re.search(r"```python\n(.*?)```", card, re.DOTALL)[1], found)
    responses = load_generations(store.path(made.metrics.policy.generations)).select(["prompt", "response"]).to_pylist()
    equal = sum(found["respond"](row["prompt"]) == row["response"] for row in responses)
    assert len(responses) == 12
    assert equal >= (12 if "model.dtype=bfloat16" not in overrides else 9)  # a batch rounds otherwise than a prompt alone
    assert f"evaluated in `{made.settings.model.dtype.name}`" in card
    policy = logps_of(made.policy.load(working(store)), made, store)
    torch.testing.assert_close(logps_of(found["model"].eval(), made, store), policy, atol=1e-5, rtol=0)
    assert found["tokenizer"].eos_token == "</s>"


def test_the_lines_in_the_card_of_a_4_bit_adapter_load_its_base_in_4_bits():
    model = composed(
        "model=pretrained", "model.path=base", "model.dtype=bfloat16", "model.quantization=nf4", "adapter=lora"
    ).model
    said = "\n".join(_use(model, Exported(base="base")))
    code = re.search(r"```python\n(.*?)```", said, re.DOTALL)[1]
    compile(code, "card", "exec")
    assert "It was evaluated in `bfloat16`, on a base model in 4 bits (`nf4`)." in said
    assert 'BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True' in code


@pytest.mark.slow
def test_an_adapter_in_a_pickle_is_refused(options, folder, tmp_path):
    shutil.copytree(folder / "adapter", tmp_path / "old")
    (tmp_path / "old" / "adapter_model.safetensors").rename(tmp_path / "old" / "adapter_model.bin")
    settings = composed(*options, "adapter=pretrained", f"model.adapter={tmp_path / 'old'}")
    with pytest.raises(UserError, match=r"old has no adapter_model\.safetensors; pickled weights"):
        opened(tmp_path, settings.runtime).ensure(Pipeline(settings).policy)


@pytest.mark.slow
def test_targets_that_the_model_lacks_are_refused_with_those_that_it_has(options, tmp_path):
    settings = composed(*options, *LORA, "adapter.targets=[q_proj,v_porj]")
    with pytest.raises(UserError, match=r"adapter\.targets: LlamaForCausalLM has no layers named v_porj") as raised:
        opened(tmp_path, settings.runtime).ensure(Pipeline(settings).policy)
    assert "q_proj" in raised.value.args[1]
