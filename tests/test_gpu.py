"""What a GPU computes is what a CPU computes, to rounding; these tests run wherever a card is found."""

import json

import pytest
import torch
from running import SMALL, run
from test_sharing import batch
from tiny import gpt2, llama, tokenizer
from torch.testing import assert_close

from aloll_cli.models.decoding import Greedy
from aloll_cli.models.generation import respond
from aloll_cli.models.logprobs import ResponseLogps
from aloll_cli.runtime.options import Batching
from aloll_cli.training.batches import TokenBatch

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no GPU")]
GPU = "cuda"


def logps_and_gradients(model, device, dtype=torch.float32, **options):
    model = model.to(device).eval()
    module = ResponseLogps(model, **options)
    tokens = TokenBatch(*(part.to(device) for part in vars(batch()).values()))
    with torch.autocast(torch.device(device).type, dtype, enabled=dtype != torch.float32):
        logps = tokens.logps(module)
    logps.sum().backward()
    return logps.detach().cpu(), [p.grad.cpu() for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("options", [{}, {"chunked": True}, {"shares": True}, {"recompute": True}], ids=str)
@pytest.mark.parametrize("make", [gpt2, llama])
def test_log_probs_and_gradients_are_those_of_a_cpu(make, options):
    expected, gradients = logps_and_gradients(make(), "cpu")
    found, same = logps_and_gradients(make(), GPU, **options)
    assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert_close(same, gradients, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("options", [{}, {"chunked": True}], ids=str)
def test_log_probs_in_16_bits_are_near_those_in_32(options):
    expected, _ = logps_and_gradients(llama(), "cpu")
    found, _ = logps_and_gradients(llama(), GPU, torch.bfloat16, **options)
    assert_close(found, expected, atol=5e-2, rtol=5e-2)


@pytest.mark.parametrize("batching", list(Batching), ids=lambda batching: batching.name)
def test_greedy_responses_are_those_of_a_cpu(batching):
    def responses(device, batching):
        prompts = [row[mask == 1].numpy() for row, mask in zip(batch().prompt_ids, batch().prompt_mask, strict=True)]
        names, model = [str(i) for i in range(len(prompts))], llama().to(device).eval()
        found = respond(
            model, tokenizer(), prompts, names, Greedy(repetition_penalty=1.0), stream="0", max_tokens=8, stop=[],
            batch_tokens=512, batching=batching, tell=pytest.fail,
        )  # fmt: skip
        return [response.ids for response in found]

    assert responses(GPU, batching) == responses("cpu", Batching.padded)


@pytest.mark.parametrize(
    "options", [[], ["adapter=lora"], ["variant=dpo"], ["variant=ppo"], ["gradient_checkpointing=true"]], ids=str
)
def test_a_whole_run_ends_and_a_deterministic_one_twice_with_the_same_bits(tmp_path, options):
    for name in ("one", "other"):
        run(tmp_path, "run", *SMALL, *options, f"device={GPU}", "deterministic=true", f"output_dir={name}")
    figures = [
        json.loads(next((tmp_path / name).glob("reviews/metrics/*/metrics.json")).read_text()) for name in ("one", "other")
    ]
    assert figures[0] == figures[1]
