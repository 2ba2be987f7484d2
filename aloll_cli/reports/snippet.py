"""The code of a model card: it loads a policy in the numbers that it was evaluated in, and asks it in the same form."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from aloll_cli.artifacts.usage import Usage
from aloll_cli.models.base import Model
from aloll_cli.tasks.base import Turn

BITS = (
    'BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="{kind}", bnb_4bit_use_double_quant={double}, '
    "bnb_4bit_compute_dtype=torch.{dtype})"
)


def snippet(model: Model, usage: Usage | None, place: str, base: str | None) -> str:
    """Python that runs as it stands.

    Args:
        model: the numbers that the policy was evaluated in.
        usage: how it is asked; None, or not exact: the code only loads it.
        place: the policy's folder, or its name on the hub.
        base: the model that an adapter belongs to; None for full weights.
    """
    asks = usage if usage is not None and usage.is_exact else None
    lines = ["import torch", *_imports(model, asks, base), "", f'place = "{place}"' + ("  # this folder" if place == "." else "")]
    code = ", trust_remote_code=True" if getattr(model, "trust_remote_code", False) else ""
    lines.append(f"tokenizer = AutoTokenizer.from_pretrained(place{code})")
    options = f", dtype=torch.{model.dtype.name}{code}"
    if base is not None and (quantization := getattr(model, "quantization", None)):
        double = getattr(model, "double_quantization", False)
        bits = BITS.format(kind=quantization.name, double=double, dtype=model.dtype.name)
        lines.append(f"bits = {bits}")
        options += ", quantization_config=bits"
    lines.append(f"model = AutoModelForCausalLM.from_pretrained({'place' if base is None else _literal(base)}{options})")
    lines += [] if base is None else ["model = PeftModel.from_pretrained(model, place)"]
    return "\n".join([*lines, *(_respond(asks) if asks else [])])


def _imports(model: Model, usage: Usage | None, base: str | None) -> list[str]:
    names = ["AutoModelForCausalLM", "AutoTokenizer"]
    names += ["BitsAndBytesConfig"] if base is not None and getattr(model, "quantization", None) else []
    names += ["GenerationConfig"] if usage else []
    return [*([] if base is None else ["from peft import PeftModel"]), f"from transformers import {', '.join(names)}"]


def _respond(usage: Usage) -> list[str]:
    decoding = {**usage.decoding, "max_new_tokens": usage.response_tokens}
    decoding |= {"eos_token_id": list(usage.ends), "pad_token_id": usage.pad}
    decoding |= {"stop_strings": list(usage.stop)} if usage.stop else {}
    options = ", ".join(f"{name}={_literal(value)}" for name, value in decoding.items())
    lines = [f"model.generation_config = GenerationConfig({options})", "", ""]
    if usage.messages:
        given = "".join(f", {name}={_literal(value)}" for name, value in usage.template.items())
        ids = f"tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True{given})"
        lines += ["def respond(messages):", f'    ids = {ids}["input_ids"]']
        example = [_turns(usage.messages), "print(respond(messages))"]
    else:
        before = f"{list(usage.before)} + " if usage.before else ""
        if len(usage.parts) == 1:
            lines += ["def respond(prompt):", f"    ids = {before}tokenizer(prompt, add_special_tokens=False).input_ids"]
        else:
            each = "[token for part in parts for token in tokenizer(part, add_special_tokens=False).input_ids]"
            lines += ["def respond(*parts):  # of a prompt, each tokenized by itself", f"    ids = {before}{each}"]
        example = [f"print(respond({', '.join(map(_literal, usage.parts))}))"]
    stops = ", tokenizer=tokenizer" if usage.stop else ""
    lines += [
        "    prompt = torch.tensor([ids], device=model.device)",
        f"    new = model.generate(input_ids=prompt, attention_mask=torch.ones_like(prompt){stops})[0, len(ids) :]",
        *_text_of(usage),
        "",
        "",
        *example,
    ]
    return lines


def _text_of(usage: Usage) -> list[str]:
    """The lines from new tokens to a response."""
    lines = ["    text = tokenizer.decode(new, skip_special_tokens=True)"]
    if usage.opening:
        lines.append(f"    text = text.removeprefix({_literal(usage.opening)})")
    if usage.closing:
        lines.append(f"    text = text.removesuffix({_literal(usage.closing)})")
    lines += [f"    text = text.split({_literal(stop)})[0]" for stop in usage.stop]
    return [*lines, "    return text"]


def _literal(value: Any) -> str:
    """A value as Python code: texts in double quotes, and without what would end a block of code in Markdown."""
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    return json.dumps(value, ensure_ascii=False).replace("`", "\\u0060") if isinstance(value, str) else repr(value)


def _turns(messages: Sequence[Turn]) -> str:
    """A chat as Python code, one turn per line."""
    lines = [f'    {{"role": {_literal(turn["role"])}, "content": {_literal(turn["content"])}}},' for turn in messages]
    return "\n".join(["messages = [", *lines, "]"])
