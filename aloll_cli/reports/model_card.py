"""The model card of an exported policy: what it is, what it was trained on and by, and how much better it became."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from aloll_cli.artifacts.metrics import METHOD
from aloll_cli.schema import flatten, identity
from aloll_cli.variants.base import Online, Pointwise, Signal

if TYPE_CHECKING:
    from aloll_cli.artifacts.policy import TrainedPolicy

# of a recipe; the rest is in the recipe's own file
SHOWN = ("adapter.", "optimizer.", "sampling.", "variant.", "batch_size", "epochs", "updates", "seed", "select_best")


def model_card(policy: TrainedPolicy, about: dict[str, Any], metrics: dict[str, Any] | None, base: str | None) -> str:
    """Markdown with the header that hubs read.

    Args:
        policy: what is exported.
        about: task, variant, seed, split, reward and test_reward, as metrics.json has them.
        metrics: of the policy, where it was evaluated.
        base: the model that the exported adapter belongs to; None where the weights are whole.
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
    use = (
        "`transformers.AutoModelForCausalLM.from_pretrained` opens this folder."
        if base is None
        else f"An adapter for `{base}`: `transformers.AutoModelForCausalLM.from_pretrained` opens it, and so does peft."
    )
    rows = [("fingerprint", policy.fingerprint), *_lineage(policy), *_options(policy.identity())]
    rows += [(f"model.{key}", str(value)) for key, value in identity(policy.model).items() if value not in (None, False)]
    table = ["| | |", "|---|---|", *(f"| {name} | `{value}` |" for name, value in rows)]
    better = ["## How much better", "", *_gains(about, metrics)]
    title = f"# {about['task']}, {about['variant']}, seed {about['seed']}"
    return "\n".join([*header, "---", "", title, "", text, "", use, "", *better, "", "## Recipe", "", *table, ""])


def _gains(about: dict[str, Any], metrics: dict[str, Any] | None) -> list[str]:
    if metrics is None:
        return ["Not evaluated."]
    lines = []
    for key, reward in (("gain", about["reward"]), ("held_out_gain", about["test_reward"])):
        gain = metrics[key]
        name = key.replace("_", "-").replace("-gain", " gain")
        if gain is None:
            lines.append(f"- {name}: none ({metrics[f'{key}_why']})")
        else:
            low, high = gain["ci95"]
            lines.append(f"- {name} under `{reward}`: {gain['mean']:+.3f}, 95 % interval [{low:.3f}, {high:.3f}]")
    sides = ", ".join(f"{side} {metrics[side]['reward']['mean']:.3f}" for side in ("policy", "reference") if metrics["gain"])
    lines += [f"- mean reward: {sides}"] if sides else []
    how = f"; {METHOD}" if metrics["gain"] else ""
    return [*lines, f"- on {metrics['n']} {metrics['split']} prompts, against the model before this training{how}"]


def _lineage(policy: TrainedPolicy) -> list[tuple[str, str]]:
    """What it was made from, by role."""
    return [(role.replace("_", " "), artifact.folder) for role, artifact in policy.inputs().items()]


def _options(identity: dict[str, Any]) -> list[tuple[str, str]]:
    flat = {key: value for key, value in flatten(identity).items() if key.startswith(SHOWN) and value is not None}
    return [(key, str(value)) for key, value in flat.items()]
