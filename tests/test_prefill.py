"""Samples and beams of a prompt share its prefill: the same tokens, with fewer positions computed."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_architectures import BENT, PLAIN
from tiny import VOCABULARY, gpt2, llama, tokenizer
from transformers import BloomConfig, BloomForCausalLM, MambaConfig, MambaForCausalLM

from aloll_cli.models import prefill
from aloll_cli.models.decoding import Beam, Greedy, Sample
from aloll_cli.models.generation import respond

SAMPLE = Sample(samples=3, seed=1, top_p=0.95, temperature=1.0, repetition_penalty=1.0)
BEAM = Beam(beams=3, repetition_penalty=1.3)
LENGTHS = (9, 4, 1, 9)


def prompts():
    random = np.random.default_rng(0)
    return [random.integers(3, VOCABULARY, length) for length in LENGTHS]


def answers(model, generation=SAMPLE, batch_tokens=1000, stop=(), given=None):
    """Responses to some prompts, each as many times as there are samples."""
    given = prompts() if given is None else given
    names = [name for i in range(len(given)) for name in generation.names(str(i))]
    repeated = [prompt for prompt in given for _ in range(generation.samples_per_prompt)]
    return respond(
        model, tokenizer(), repeated, names, generation, stream="0", max_tokens=6, stop=list(stop), batch_tokens=batch_tokens
    )


def separately(monkeypatch, *given, **options):
    """Responses of rows that are computed one by one."""
    with monkeypatch.context() as patched:
        patched.setattr(prefill, "WORTH", 0)
        return answers(*given, **options)


def computed(model, *given, **options):
    """Responses, and the shape of what the model was called with each time."""
    shapes = []
    handle = model.get_input_embeddings().register_forward_hook(lambda module, given, out: shapes.append(tuple(out.shape[:2])))
    found = answers(model, *given, **options)
    handle.remove()
    return found, shapes


@pytest.mark.parametrize("generation", [SAMPLE, replace(SAMPLE, repetition_penalty=1.5), BEAM], ids=["sample", "penalty", "beam"])
@pytest.mark.parametrize("make", [gpt2, llama], ids=["gpt2", "llama"])
def test_a_prompt_is_computed_once_for_all_samples_and_beams_with_the_same_tokens(make, generation, monkeypatch):
    model, stop = make(), ["a"]
    assert separately(monkeypatch, model, generation, stop=stop) == answers(model, generation, stop=stop)
    expected = separately(monkeypatch, model, generation)
    found, shapes = computed(model, generation)
    assert found == expected
    assert len({response.text for response in found}) > 3
    rows = len(found) * generation.sequences
    # what kind of cache there is, four prompts, and their last token in each row
    assert shapes[:3] == [(1, 1), (4, 9), (rows, 1)]
    assert set(shapes[3:]) == {(rows, 1)}


def test_single_samples_and_prompts_of_one_token_are_computed_as_they_are():
    model = llama()
    for generation, given in ((replace(SAMPLE, samples=1), prompts()), (Greedy(repetition_penalty=1.0), prompts())):
        assert computed(model, generation, given=given)[1][0] == (4, 9)
    assert computed(model, given=[np.array([5]), np.array([7])])[1][0] == (6, 1)


@pytest.mark.parametrize("make", (PLAIN | BENT).values(), ids=PLAIN | BENT)
def test_every_architecture_shares_prefills_or_has_a_cache_of_another_kind(make, monkeypatch):
    torch.manual_seed(0)
    model = make().eval()
    expected = separately(monkeypatch, model)
    found, shapes = computed(model)
    assert found == expected
    kinds = set(getattr(model.config.get_text_config(), "layer_types", None) or []) - {"full_attention"}
    assert shapes[:2] == ([(1, 1), (12, 9)] if kinds else [(1, 1), (4, 9)])


def test_state_space_layers_and_other_positions_change_nothing(monkeypatch):
    small = {"vocab_size": VOCABULARY, "hidden_size": 32, "initializer_range": 0.5}
    bloom = BloomForCausalLM(BloomConfig(**small, n_layer=2, n_head=2)).eval()
    mamba = MambaForCausalLM(MambaConfig(**small, num_hidden_layers=2)).eval()
    for model, rows in ((bloom, 4), (mamba, 12)):
        found, shapes = computed(model)
        assert found == separately(monkeypatch, model)
        assert shapes[1] == (rows, 9)


def test_rows_are_computed_where_a_repeated_cache_begins_with_other_log_probs(monkeypatch):
    model = llama()
    expected = separately(monkeypatch, model)
    repeated = prefill.DynamicCache.batch_select_indices

    def broken(cache, rows):
        repeated(cache, rows.flip(0))

    monkeypatch.setattr(prefill.DynamicCache, "batch_select_indices", broken)
    found, shapes = computed(model, batch_tokens=90)
    assert found == expected
    assert shapes[:4] == [(1, 1), (2, 9), (6, 1), (6, 9)]  # tried once
    assert all(count > 2 for count, _ in shapes[2:])
