"""Continuous batching: the responses of padded batches, row by row, from the paged cache of transformers."""

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model
from tiny import VOCABULARY, composed, gpt2, llama, opened, reviews, some_slow, tokenizer
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    GemmaConfig,
    GemmaForCausalLM,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)
from transformers.generation.continuous_batching import RequestState
from transformers.generation.continuous_batching.continuous_api import ContinuousBatchProcessor

from aloll_cli.artifacts.generations import Generations, load_generations
from aloll_cli.artifacts.pipeline import Pipeline
from aloll_cli.artifacts.policy_source import LoadedPolicy
from aloll_cli.errors import UserError
from aloll_cli.models import continuous
from aloll_cli.models.decoding import Beam, Greedy, Sample
from aloll_cli.models.generation import respond
from aloll_cli.runtime.options import Batching
from aloll_cli.text.encoded import Around

LENGTHS = (5, 2, 90, 1, 7, 3, 40, 40)
GREEDY = Greedy(repetition_penalty=1.0)
SAMPLE = Sample(samples=1, seed=1, top_p=0.95, temperature=0.8, repetition_penalty=1.0)
SIZES = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2}
TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


@pytest.fixture(scope="module")
def model():
    return llama()


def prompts():
    random = np.random.default_rng(0)
    return [random.integers(3, VOCABULARY, length) for length in LENGTHS]


def answers(model, batching, generation=GREEDY, given=None, max_tokens=12, stop=(), batch_tokens=200, **options):
    given = prompts() if given is None else given
    names = [f"prompt-{i}" for i in range(len(given))]
    return respond(
        model, tokenizer(), given, names, generation, batching=batching, stream="0", max_tokens=max_tokens,
        stop=list(stop), batch_tokens=batch_tokens, **options,
    )  # fmt: skip


def both(model, *given, **options):
    """The responses of padded batches, and those of continuous batching, which nothing stood in the way of."""
    told = []
    found = answers(model, Batching.continuous, *given, tell=told.append, **options)
    assert told == []
    return answers(model, Batching.padded, *given, **options), found


@pytest.mark.parametrize("generation", some_slow([GREEDY, SAMPLE]), ids=["greedy", "sample"])
@pytest.mark.parametrize("make", [gpt2, llama], ids=["gpt2", "llama"])
def test_every_row_is_generated_as_in_padded_batches(make, generation):
    model = make()
    for batch_tokens in (1, 200, 5000):  # at first no more than the longest prompt needs
        padded, found = both(model, generation, batch_tokens=batch_tokens)
        assert found == padded
    assert len({response.text for response in padded}) == len(LENGTHS)


def test_a_row_that_lost_its_place_in_the_cache_goes_on_with_its_own_tokens_and_numbers(model, monkeypatch):
    lost, again = [], RequestState.create_equivalent_initial_request
    monkeypatch.setattr(RequestState, "create_equivalent_initial_request", lambda state: lost.append(state) or again(state))
    long, short = [prompts()[2][i : i + 40] for i in range(3)], [prompts()[2][i : i + 2] for i in range(9)]
    padded, found = both(model, SAMPLE, given=[*long, *short], max_tokens=30, batch_tokens=160)
    assert found == padded  # three rows begin together, where there is room for two long ones to the end
    assert lost


def test_a_stop_string_ends_a_row_and_makes_room(model):
    whole = answers(model, Batching.padded)
    stop = [whole[0].text[2:4], whole[2].text[:1]]
    tokens = []
    handle = model.get_input_embeddings().register_forward_hook(lambda module, given, out: tokens.append(out.shape[1]))
    found = answers(model, Batching.continuous, stop=stop)
    stopped, tokens[:] = sum(tokens), []
    assert answers(model, Batching.continuous) == whole
    handle.remove()
    assert found == answers(model, Batching.padded, stop=stop)
    assert (found[0].ended, found[2].text) == (True, "")
    assert stopped < sum(tokens)
    around = [Around(response.text[:6], "") for response in whole]
    padded, found = both(model, stop=stop, around=around)
    assert found == padded
    assert found[0].text != whole[0].text[:2]


def test_an_end_token_or_the_limit_at_the_first_token_ends_a_row(model):
    first = [response.ids[0] for response in answers(model, Batching.padded, max_tokens=1)]
    padded, found = both(model, max_tokens=1)
    assert found == padded
    assert [response.ids for response in found] == [[token] for token in first]
    ending = llama()
    ending.generation_config.eos_token_id = [2, *first[:3]]
    padded, found = both(ending)
    assert found == padded
    assert [(response.text, response.ended, len(response.ids)) for response in found[:3]] == [("", True, 1)] * 3


def test_samples_of_a_prompt_and_one_prompt_alone_are_generated_as_in_padded_batches(model):
    padded, found = both(model, SAMPLE, given=[prompt for prompt in prompts()[:3] for _ in range(4)])
    assert found == padded
    assert len({response.text for response in found}) > 8
    padded, found = both(model, SAMPLE, given=prompts()[2:3])
    assert found == padded
    assert answers(model, Batching.continuous, given=[]) == []


@pytest.mark.slow
def test_an_adapter_takes_part(model):
    adapted = get_peft_model(llama(), LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)).eval()
    padded, found = both(adapted)
    assert found == padded != answers(model, Batching.padded)


def test_plain_attention_is_there_again_afterwards():
    model = llama()
    model.set_attn_implementation("eager")
    padded, found = both(model)
    assert found == padded
    assert model.config._attn_implementation == "eager"


def test_nothing_global_changes(model):
    torch.manual_seed(7)
    before, threads, counts = torch.get_rng_state(), threading.active_count(), []
    answers(model, Batching.continuous, SAMPLE, advance=counts.append)
    assert torch.equal(torch.get_rng_state(), before)
    assert threading.active_count() == threads
    assert counts == [1] * len(LENGTHS)


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_what_ends_a_step_ends_the_call_and_leaves_nothing_behind(error):
    model, calls, threads = llama(), [], threading.active_count()
    model.set_attn_implementation("eager")

    def fail(*_):
        calls.append(1)
        if len(calls) == 4:
            raise error

    handle = model.register_forward_hook(fail)
    with pytest.raises(error):
        answers(model, Batching.continuous)
    handle.remove()
    assert (threading.active_count(), model.config._attn_implementation) == (threads, "eager")
    padded, found = both(model)
    assert found == padded


def test_rows_without_a_response_are_an_error(model, monkeypatch):
    steps, prepare = iter(range(5)), ContinuousBatchProcessor.prepare_next_batch
    monkeypatch.setattr(
        ContinuousBatchProcessor, "prepare_next_batch", lambda batch: next(steps, None) is not None and prepare(batch)
    )
    with pytest.raises(UserError, match=r"generation_batching=continuous: 8 of 8 responses were not generated\.") as raised:
        answers(model, Batching.continuous)
    assert raised.value.args[1] == "generation_batching=padded"


def test_a_model_that_computes_something_else_with_the_paged_cache_is_an_error():
    model = gpt2()

    def misplaced(module, given, options):
        return given, options | ({"position_ids": options["position_ids"] + 3} if "cache" in options else {})

    model.register_forward_pre_hook(misplaced, with_kwargs=True)
    with pytest.raises(UserError, match="GPT2LMHeadModel computes other log-probs with it") as raised:
        answers(model, Batching.continuous)
    assert raised.value.args[1] == "generation_batching=padded"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "config", "sizes"),
    [
        (Qwen3ForCausalLM, Qwen3Config, {"num_key_value_heads": 2, "head_dim": 8, "intermediate_size": 64}),
        (GemmaForCausalLM, GemmaConfig, {"num_key_value_heads": 1, "head_dim": 16, "intermediate_size": 64}),
        (GPTNeoXForCausalLM, GPTNeoXConfig, {"intermediate_size": 64}),
        (OPTForCausalLM, OPTConfig, {"ffn_dim": 64, "word_embed_proj_dim": 32}),
    ],
)
def test_other_architectures_are_generated_as_in_padded_batches(model, config, sizes):
    torch.manual_seed(0)
    made = model(config(num_attention_heads=4, initializer_range=0.2, **sizes, **SIZES, **TOKENS)).eval()
    for generation in (GREEDY, SAMPLE):
        padded, found = both(made, generation)
        assert found == padded


def mistral():
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 64}
    return MistralForCausalLM(MistralConfig(sliding_window=8, **heads, **SIZES, **TOKENS)).eval()


def bloom():
    return BloomForCausalLM(BloomConfig(n_head=2, **SIZES, **TOKENS)).eval()


def mamba():
    return MambaForCausalLM(MambaConfig(**SIZES, **TOKENS)).eval()


@pytest.mark.parametrize(
    ("make", "generation", "why"),
    [
        (llama, Beam(beams=2, repetition_penalty=1.0), "beams are decoded together"),
        (llama, replace(GREEDY, repetition_penalty=1.5), "of generation.repetition_penalty=1.5"),
        (mistral, GREEDY, "MistralForCausalLM has layers other than full attention"),
        (bloom, GREEDY, "BloomForCausalLM computes attention in its own way"),
        (mamba, SAMPLE, "MambaForCausalLM computes attention in its own way"),
    ],
    ids=["beams", "penalty", "sliding window", "alibi", "state space"],
)
def test_what_cannot_be_done_is_done_in_padded_batches_and_told(make, generation, why):
    torch.manual_seed(0)
    model, told = make(), []
    found = answers(model, Batching.continuous, generation, tell=told.append)
    assert found == answers(model, Batching.padded, generation)
    assert told == [f"  generation_batching=continuous: padded batches, because {why}"]


def test_autocast_and_other_versions_of_transformers_are_obstacles(model, monkeypatch):
    assert continuous.obstacle(model, GREEDY) is None
    with torch.autocast("cpu", torch.bfloat16):
        assert "autocast" in continuous.obstacle(model, GREEDY)
    monkeypatch.setattr(continuous, "KNOWN", "5.17.")
    assert continuous.obstacle(model, GREEDY) == f"transformers {transformers.__version__} is another version than 5.17.x"


@pytest.mark.slow
def test_the_option_reaches_the_responses_of_an_evaluation_and_a_reason_against_it_the_log(tmp_path, monkeypatch, capsys):
    calls, plain = [], continuous.respond
    monkeypatch.setattr(continuous, "respond", lambda *given, **options: calls.append(1) or plain(*given, **options))
    sizes = ("model.hidden_size=32", "model.layers=1", "model.heads=2", "model.intermediate_size=32", "model.vocab_size=300")
    rows, tables = reviews(tmp_path / "rows", others=12), {}
    for batching in Batching:
        settings = composed(f"task.path={rows}", *sizes, "task.max_response_tokens=6", f"generation_batching={batching.name}")
        line, place = Pipeline(settings), opened(tmp_path / batching.name, settings.runtime)
        policy = LoadedPolicy(settings.model, line.tokenizer, seed=1)
        for penalty in (1.0, 1.5):
            decoding = replace(SAMPLE, repetition_penalty=penalty)
            made = place.ensure(Generations(policy, line.examples, "validation", decoding))
            tables[batching, penalty] = load_generations(made)
    assert len(calls) == 1
    for penalty in (1.0, 1.5):
        assert tables[Batching.continuous, penalty].equals(tables[Batching.padded, penalty])
    assert (
        capsys.readouterr().err.count("generation_batching=continuous: padded batches, because of generation.repetition_penalty")
        == 1
    )
