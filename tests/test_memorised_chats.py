"""What a chat model is trained on is what it is served with: memorised chats come out of aloll and of transformers alike."""

from itertools import cycle

import pytest
import torch
from families import FAMILIES, KINDS, tokenizer_of
from test_templates import encoder, rendered
from tiny import composed, opened, write_rows
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from aloll_cli.artifacts.pipeline import Pipeline
from aloll_cli.files import read_json_lines
from aloll_cli.models.decoding import Greedy
from aloll_cli.models.generation import respond
from aloll_cli.tasks.base import Part
from aloll_cli.text.encoding import left_padded, right_padded

CHATS = {
    "How do I bake bread?": "Mix flour, water and salt, then wait.",
    "Was the soup good?": "The soup was cold.",
    "And the garden?": "We loved the quiet garden.",
}


def memorised(prompts, responses, tokenizer):
    """A tiny Llama that was trained on these tokens until it knows them by heart."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=512, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    (left, left_mask), (right, right_mask) = left_padded(prompts, 0, "cpu"), right_padded(responses, 0, "cpu")
    ids, mask = torch.cat([left, right], dim=1), torch.cat([left_mask, right_mask], dim=1)
    labels = ids.masked_fill(torch.cat([torch.zeros_like(left_mask), right_mask], dim=1) == 0, -100)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(300):
        loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        if loss < 0.01:
            break
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert loss < 0.01
    return model.eval()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind"), list(zip(FAMILIES, cycle(KINDS), strict=False)))
def test_memorised_chats_come_out_of_aloll_and_of_transformers(name, kind, tmp_path):
    tokenizer = tokenizer_of(name, kind)
    prompts = encoder(name, kind).prompts([[vars(Part(text, "user"))] for text in CHATS])
    responses = encoder(name, kind).responses(list(CHATS.values()), prompts)
    model = memorised([prompt.ids for prompt in prompts], [response.ids for response in responses], tokenizer)
    ours = respond(
        model, tokenizer, [prompt.ids for prompt in prompts], list(CHATS), Greedy(repetition_penalty=1.0), stream="0",
        max_tokens=120, stop=["\n#"], batch_tokens=1000, around=[prompt.around for prompt in prompts],
    )  # fmt: skip
    assert [response.text for response in ours] == list(CHATS.values())
    assert [response.ids for response in ours] == [response.ids for response in responses]
    assert all(response.ended for response in ours)
    for question, response in zip(CHATS, responses, strict=True):
        asked = torch.tensor([rendered(name, kind, [("user", question)], opened=True)])
        given = model.generate(asked, max_new_tokens=120, do_sample=False, eos_token_id=responses[0].ids[-1])
        assert given[0, asked.shape[1] :].tolist() == response.ids
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    assert evaluated(tmp_path, FAMILIES[name].chat.name) == CHATS


def evaluated(folder, chat):
    """What ``aloll evaluate`` has a saved model say to the questions."""
    for split in ("train", "validation", "test"):
        said = CHATS if split == "test" else {f"{question} Again, {split}?": text for question, text in CHATS.items()}
        rows = [{"prompt": [{"role": "user", "content": question}], "response": text} for question, text in said.items()]
        write_rows(folder / "rows" / f"{split}.jsonl", rows)
    settings = composed(
        "task=local", f"task.path={folder / 'rows'}", f"task.chat={chat}", "model=pretrained", f"model.path={folder / 'model'}",
        "reference=pretrained", f"policy={folder / 'model'}", "values=constant", "generation=greedy",
        "task.max_prompt_tokens=200", "task.max_response_tokens=120",
    )  # fmt: skip
    metrics = opened(folder / "outputs", settings.runtime).ensure(Pipeline(settings).metrics)
    rows = read_json_lines(metrics / "answers.jsonl")
    return {question: row["policy"]["response"] for question in CHATS for row in rows if question in row["prompt"]}
