"""The model card of an exported policy: what it is, how it was trained, and its evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from aloll_cli.artifacts.metrics import METHOD
from aloll_cli.reports.figures import too_few
from aloll_cli.schema import flatten, identity
from aloll_cli.variants.base import Online, Pointwise, Signal

if TYPE_CHECKING:
    from aloll_cli.artifacts.policy import TrainedPolicy
    from aloll_cli.models.base import Model

# options of the recipe that the card lists; recipe.json has all
SHOWN = (
    "adapter.", "optimizer.", "sampling.", "variant.", "batch_size", "epochs", "updates", "early_stop", "seed", "select_best",
)  # fmt: skip


def model_card(policy: TrainedPolicy, about: dict[str, Any], metrics: dict[str, Any] | None, base: str | None) -> str:
    """Markdown with the YAML header that model hubs read.

    Args:
        policy: the exported policy.
        about: task, variant, seed, split, reward and test_reward, as in metrics.json.
        metrics: content of metrics.json; None if the policy was not evaluated.
        base: the model that the exported adapter belongs to; None if full weights are exported.
    """
    variant = policy.training.variant
    is_alol = isinstance(variant, Pointwise) and variant.signal is Signal.advantage
    weighted = not isinstance(variant, Pointwise) or variant.signal is not Signal.none
    on = "its own responses to the prompts" if isinstance(variant, Online) else "the logged responses"
    method = "online RL" if isinstance(variant, Online) else "offline RL"
    tags = [*([] if isinstance(variant, Online) else ["offline-rl"]), *(["a-lol"] if is_alol else [])]
    header = ["---", f"library_name: {'transformers' if base is None else 'peft'}"]
    header += [f"base_model: {base}"] if base is not None and not Path(base).is_dir() else []
    header += ["pipeline_tag: text-generation"]
    header += [f"tags: [{', '.join(tags)}]"] if weighted and tags else []
    by = f"by {method} for the reward `{about['reward']}`" if weighted else "without a reward"
    text = (
        f"Fine-tuned {by} on {on} of the task `{about['task']}`, with aloll. `variant={about['variant']}`: "
        f"{(type(variant).__doc__ or '').strip().splitlines()[0]}"
    )
    rows = [("fingerprint", policy.fingerprint), *_lineage(policy), *_options(policy.identity())]
    rows += [(f"model.{key}", str(value)) for key, value in identity(policy.model).items() if value not in (None, False)]
    table = ["| | |", "|---|---|", *(f"| {name} | `{value}` |" for name, value in rows)]
    evaluation = ["## Evaluation", "", *_gains(about, metrics)]
    title = f"# {about['task']}, {about['variant']}, seed {about['seed']}"
    return "\n".join(
        [*header, "---", "", title, "", text, "", *_use(policy.model, base), "", *evaluation, "", "## Recipe", "", *table, ""]
    )


WHOLE = """```python
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(".")  # this folder
model = AutoModelForCausalLM.from_pretrained("."{options})
```"""
ADAPTER = """```python
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer{more}

tokenizer = AutoTokenizer.from_pretrained(".")  # this folder
model = AutoModelForCausalLM.from_pretrained("{base}"{options})
model = PeftModel.from_pretrained(model, ".")
```"""
BITS = (
    '\n    quantization_config=BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="{kind}", '
    "bnb_4bit_use_double_quant={double}, bnb_4bit_compute_dtype=torch.{dtype}),\n"
)


def _use(model: Model, base: str | None) -> list[str]:
    """The numbers that it was evaluated in, and how to load it in them: a base model in others changes the adapter's logits."""
    dtype, quantization = model.dtype.name, getattr(model, "quantization", None)
    options = f", dtype=torch.{dtype}" + (", trust_remote_code=True" if getattr(model, "trust_remote_code", False) else "")
    said = f"It was evaluated in `{dtype}`" + (f", on a base model in 4 bits (`{quantization.name}`)" if quantization else "")
    if base is None:
        return [f"{said}. Load it with transformers:", "", WHOLE.format(options=options)]
    if quantization:
        double = getattr(model, "double_quantization", False)
        options += "," + BITS.format(kind=quantization.name, double=double, dtype=dtype)
    more = ", BitsAndBytesConfig" if quantization else ""
    code = ADAPTER.format(base=base, options=options, more=more)
    return [f"This is an adapter for `{base}`. {said}. Load it with peft, on the base model in these numbers:", "", code]


def _gains(about: dict[str, Any], metrics: dict[str, Any] | None) -> list[str]:
    if metrics is None:
        return ["Not evaluated."]
    lines = []
    for key, reward in (("gain", about["reward"]), ("held_out_gain", about["test_reward"])):
        gain = metrics[key]
        name = {"gain": "reward gain", "held_out_gain": "held-out reward gain"}[key]
        if gain is None:
            lines.append(f"- {name}: not available ({metrics[f'{key}_why']})")
        else:
            bounds = gain["ci95"] and "95% confidence interval [{:.3f}, {:.3f}]".format(*gain["ci95"])
            lines.append(f"- {name} (`{reward}`): {gain['mean']:+.3f}, {bounds or too_few(metrics)}")
    sides = ", ".join(f"{side} {metrics[side]['reward']['mean']:.3f}" for side in ("policy", "reference") if metrics["gain"])
    lines += [f"- mean reward: {sides}"] if sides else []
    how = f"; {METHOD}; the interval excludes seed variance" if metrics["gain"] and metrics["gain"]["ci95"] else ""
    return [*lines, f"- on {metrics['n']} {metrics['split']} prompts, compared with the model before this training{how}"]


def _lineage(policy: TrainedPolicy) -> list[tuple[str, str]]:
    """The artifacts that the policy was built from: role and folder."""
    return [(role.replace("_", " "), artifact.folder) for role, artifact in policy.inputs().items()]


def _options(identity: dict[str, Any]) -> list[tuple[str, str]]:
    flat = {key: value for key, value in flatten(identity).items() if key.startswith(SHOWN) and value is not None}
    return [(key, str(value)) for key, value in flat.items()]
