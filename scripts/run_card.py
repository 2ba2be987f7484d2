"""Run the code of a model card as it stands, and compare what it responds with what evaluate's greedy decoding did.

    aloll evaluate generation=greedy OPTION=VALUE …
    aloll export   generation=greedy OPTION=VALUE … to=FOLDER
    python scripts/run_card.py FOLDER generation=greedy OPTION=VALUE …

It prints the share of equal responses to the prompts that were not cut, the share of equal tokens up to the first difference, and
how far the log-prob of each response under the card's model is from that under the policy as it was evaluated, in nats per token.
In 16 bits, rounding chooses another token where two are close: a batch rounds otherwise than a prompt alone.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aloll_cli.api import compose
from aloll_cli.artifacts.generation_logps import load_generation_logps
from aloll_cli.artifacts.generations import load_generations
from aloll_cli.artifacts.pipeline import Pipeline
from aloll_cli.schema import name_of
from aloll_cli.store.places import path_of
from aloll_cli.text.examples import ExampleTable


def asked(row: dict[str, Any], templated: bool) -> Any:
    """A prompt as the card's code takes it: a text, or turns without the empty one that the response fills."""
    if not templated:
        return row["prompt"]
    turns = [dict(turn) for turn in row["turns"]]
    return turns[:-1] if turns[-1]["role"] == "assistant" and not turns[-1]["content"] else turns


@torch.inference_mode()
def logp(model: Any, prompt: list[int], response: list[int]) -> float:
    """ln π of a response, summed over its tokens."""
    logits = model(input_ids=torch.tensor([prompt + response], device=model.device)).logits[0, len(prompt) - 1 : -1]
    return float(logits.float().log_softmax(dim=-1).gather(1, torch.tensor(response, device=model.device)[:, None]).sum())


def main(folder: str, overrides: list[str]) -> None:
    settings = compose(*overrides)
    line, root = Pipeline(settings), (Path(settings.output_dir) / name_of(settings.task)).resolve()
    side = line.metrics.policy
    rows = load_generations(path_of(side.generations, root)).to_pylist()
    known = load_generation_logps(path_of(side.under_itself, root))
    table = ExampleTable(path_of(line.examples, root) / settings.split.name)
    prompts = [int(row) for row in table.groups[1]]
    about = table.at(prompts, ["prompt_cut", "templated"]).to_pylist()
    os.chdir(folder)
    card, found = Path("README.md").read_text(encoding="utf-8"), dict[str, Any]()
    exec(re.findall(r"```python\n(.*?)```", card, re.DOTALL)[0], found)
    equal, prefix, apart = [], [], []
    for place, (row, of) in enumerate(zip(rows, about, strict=True)):
        ids = table.prompt_ids(prompts[place]).tolist()
        if known is not None:
            apart.append(abs(logp(found["model"], ids, row["response_ids"]) - known[0][place]) / known[1][place])
        if not of["prompt_cut"]:
            response = found["respond"](asked(row, of["templated"]))
            equal.append(response == row["response"])
            mine, its = (found["tokenizer"](text, add_special_tokens=False).input_ids for text in (response, row["response"]))
            same = next((i for i, (a, b) in enumerate(zip(mine, its, strict=False)) if a != b), min(len(mine), len(its)))
            prefix.append(same / max(len(mine), len(its), 1))
    sys.stdout.write(
        f"{sum(equal)} of {len(equal)} responses are equal ({len(rows) - len(equal)} prompts were cut); tokens up to the first "
        f"difference {np.mean(prefix):.1%}; log-probs of responses differ by {np.mean(apart):.2g} nats per token "
        f"(at most {np.max(apart):.2g})\n"
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
