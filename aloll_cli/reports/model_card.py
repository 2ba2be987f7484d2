"""The model card of an exported policy: what it is, how to load and ask it, how it was trained, and its evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aloll_cli.artifacts.metrics import METHOD
from aloll_cli.artifacts.usage import Usage
from aloll_cli.models.base import Dtype
from aloll_cli.reports.figures import too_few
from aloll_cli.reports.markdown import coded, escaped
from aloll_cli.reports.snippet import snippet
from aloll_cli.schema import flatten, identity
from aloll_cli.variants.base import Online, Pointwise, Signal

if TYPE_CHECKING:
    from huggingface_hub import ModelCard, ModelCardData

    from aloll_cli.artifacts.policy import TrainedPolicy
    from aloll_cli.models.base import Model
    from aloll_cli.tasks.base import Task

# options of the recipe that the card lists; recipe.json has all
SHOWN = (
    "adapter.", "optimizer.", "sampling.", "variant.", "batch_size", "epochs", "updates", "early_stop", "seed", "select_best",
)  # fmt: skip
TASK = "text-generation"  # as the hub names it
HUB = "https://huggingface.co/datasets"


@dataclass(frozen=True)
class Exported:
    """What the card is of.

    Attributes:
        place: the folder or name on the hub that the code in the card loads: ``.`` for the card's own folder.
        base: the model that an adapter belongs to; None for full weights.
        merged: whether an adapter was merged into them.
        usage: how the policy is asked; None where that cannot be told.
    """

    place: str = "."
    base: str | None = None
    merged: bool = False
    usage: Usage | None = None


def model_card(policy: TrainedPolicy, about: dict[str, Any], metrics: dict[str, Any] | None, exported: Exported) -> ModelCard:
    """Markdown with the metadata that model hubs read, as huggingface_hub writes them.

    Args:
        policy: the exported policy.
        about: task, variant, seed, split, reward and test_reward, as in metrics.json.
        metrics: content of metrics.json; None if the policy was not evaluated.
        exported: what was exported.
    """
    from huggingface_hub import ModelCard

    text = "\n".join([
        "", f"# {escaped(_name(about))}", "", _about(policy, about), "", *_use(policy.model, exported), "",
        "## Evaluation", "", *_gains(about, metrics), "", "## Data", "", *_data(policy.examples.task), "",
        "## Recipe", "", "| | |", "|---|---|", *(f"| {escaped(name)} | {coded(value)} |" for name, value in _rows(policy)), "",
    ])  # fmt: skip
    return ModelCard(f"---\n{_metadata(policy, about, metrics, exported).to_yaml()}\n---\n{text}")


def _metadata(policy: TrainedPolicy, about: dict[str, Any], metrics: dict[str, Any] | None, exported: Exported) -> ModelCardData:
    from huggingface_hub import ModelCardData

    task, results, more = policy.examples.task, _results(about, metrics, policy.examples.task), dict[str, Any]()
    if base := _published_base(policy.model, exported):
        more |= {"base_model": base, "base_model_relation": "finetune" if exported.base is None else "adapter"}
    if results:
        more |= {"eval_results": results, "model_name": _name(about)}
    return ModelCardData(
        library_name="transformers" if exported.base is None else "peft",
        datasets=[str(task.hub)] if _is_of_hub(task) else None,
        pipeline_tag=TASK,
        tags=_tags(policy) or None,
        **more,
    )


def _published_base(model: Model, exported: Exported) -> str | None:
    """The model on the hub that this one comes from, not counting models of this machine in between; None if there is none."""
    names = [exported.base, None if model.from_scratch else model.address]
    return next((name for name in names if name is not None and not Path(name).expanduser().is_dir()), None)


def _name(about: dict[str, Any]) -> str:
    return f"{about['task']}, {about['variant']}, seed {about['seed']}"


def _is_of_hub(task: Task) -> bool:
    """Whether the data is a data set of the hub."""
    return task.hub is not None and task.path is None


def _tags(policy: TrainedPolicy) -> list[str]:
    variant = policy.training.variant
    is_alol = isinstance(variant, Pointwise) and variant.signal is Signal.advantage
    offline = _is_weighted(policy) and not isinstance(variant, Online)
    return [*(["offline-rl"] if offline else []), *(["a-lol"] if is_alol else [])]


def _is_weighted(policy: TrainedPolicy) -> bool:
    """Whether training used a reward."""
    variant = policy.training.variant
    return not isinstance(variant, Pointwise) or variant.signal is not Signal.none


def _results(about: dict[str, Any], metrics: dict[str, Any] | None, task: Task) -> list[Any]:
    """Figures of the evaluation, as the hub's model-index holds them; none where nothing was measured."""
    from huggingface_hub import EvalResult

    if metrics is None:
        return []
    kind = str(task.hub) if _is_of_hub(task) else str(about["task"])
    figures = [
        ("gain", f"reward gain over the model before training ({metrics['reward']})", metrics["gain"]),
        ("reward", f"mean reward ({metrics['reward']})", metrics["policy"].get("reward")),
        ("held_out_gain", f"held-out reward gain ({metrics['test_reward']})", metrics["held_out_gain"]),
        ("held_out_reward", f"mean held-out reward ({metrics['test_reward']})", metrics["policy"].get("test_reward")),
        ("kl_per_token", "KL per token to the model before training, in nats", metrics["policy"].get("kl_per_token")),
    ]
    return [
        EvalResult(
            task_type=TASK, dataset_type=kind, dataset_name=str(about["task"]), dataset_split=metrics["split"],
            metric_type=key, metric_name=name, metric_value=figure["mean"], metric_args=_args(figure, metrics),
        )
        for key, name, figure in figures
        if figure is not None
    ]  # fmt: skip


def _args(figure: dict[str, Any], metrics: dict[str, Any]) -> dict[str, Any]:
    return {"prompts": metrics["n"]} | ({"ci95": list(figure["ci95"])} if figure["ci95"] else {})


def _about(policy: TrainedPolicy, about: dict[str, Any]) -> str:
    variant = policy.training.variant
    method = "online RL" if isinstance(variant, Online) else "offline RL"
    on = "its own responses to the prompts" if isinstance(variant, Online) else "the logged responses"
    by = f"by {method} for the reward {coded(about['reward'])}" if _is_weighted(policy) else "without a reward"
    text = f"Fine-tuned {by} on {on} of the task {coded(about['task'])}, with aloll. {coded('variant=' + about['variant'])}: "
    return text + (type(variant).__doc__ or "").strip().splitlines()[0]


def _use(model: Model, exported: Exported) -> list[str]:
    """How to load and ask it: in other numbers, an adapter's base model changes the logits by as much as training does."""
    dtype, quantization = model.dtype.name, getattr(model, "quantization", None)
    said = f"It was evaluated in `{dtype}`" + (f", on a base model in 4 bits (`{quantization.name}`)" if quantization else "")
    if exported.base is None:
        lines = [f"{said}. Load it with transformers:"]
    else:
        lines = [f"This is an adapter for {coded(exported.base)}. {said}. Load it with peft, on the base model in these numbers:"]
    lines += ["", "```python", snippet(model, exported.usage, exported.place, exported.base), "```"]
    if exported.merged:
        lines += ["", "The adapter is merged into the weights, which was apart when it was evaluated: logits differ by rounding."]
    usage = exported.usage
    if usage is not None and usage.is_exact:
        how = f"Prompts of more than {usage.prompt_tokens} tokens were cut, responses ended after {usage.response_tokens}"
        rounds = "" if model.dtype is Dtype.float32 else f" In `{dtype}` rounding depends on the batch: a few responses differ."
        lines += ["", f"{how}. The form of the prompt and the decoding are those of the evaluation.{rounds}"]
    else:
        lines += ["", '`aloll generate policy=FOLDER prompt="…"` writes prompts as they were evaluated.']
    return lines


def _gains(about: dict[str, Any], metrics: dict[str, Any] | None) -> list[str]:
    if metrics is None:
        return ["Not evaluated."]
    lines = []
    for key, reward in (("gain", about["reward"]), ("held_out_gain", about["test_reward"])):
        gain = metrics[key]
        name = {"gain": "gain", "held_out_gain": "held-out gain"}[key]
        if gain is None:
            lines.append(f"- {name}: not measured ({escaped(metrics[f'{key}_why'])})")
        else:
            bounds = gain["ci95"] and "95% confidence interval [{:.3f}, {:.3f}]".format(*gain["ci95"])
            lines.append(f"- {name} ({coded(reward)}): {gain['mean']:+.3f}, {bounds or too_few(metrics)}")
    sides = ", ".join(f"{side} {metrics[side]['reward']['mean']:.3f}" for side in ("policy", "reference") if metrics["gain"])
    lines += [f"- mean reward: {sides}"] if sides else []
    how = f"; {METHOD}; the interval excludes seed variance" if metrics["gain"] and metrics["gain"]["ci95"] else ""
    return [*lines, f"- on {metrics['n']} {metrics['split']} prompts, compared with the model before this training{how}"]


def _data(task: Task) -> list[str]:
    """Where the rows are from, and under which licence, as far as that is known."""
    licence = f"licence: {task.licence}" if task.licence else "its licence is not known here"
    link = f"[{escaped(str(task.hub))}]({HUB}/{task.hub})"
    if _is_of_hub(task):
        return [f"{link}, {licence}."]
    if task.path is None:
        return [f"The rows that aloll ships with the task, {licence}."]
    if task.hub is not None:
        return [
            f"Rows of a local file or folder in the form of [{escaped(task.hub)}]({HUB}/{task.hub}); of that data set: {licence}."
        ]
    return ["Rows of a local file or folder; their licence is not known here."]


def _rows(policy: TrainedPolicy) -> list[tuple[str, str]]:
    """The fingerprint, the artifacts that the policy was built from, and the options of training and of the model."""
    rows = [("fingerprint", policy.fingerprint)]
    rows += [(role.replace("_", " "), artifact.folder) for role, artifact in policy.inputs().items()]
    flat = flatten(policy.identity())
    rows += [(key, str(value)) for key, value in flat.items() if key.startswith(SHOWN) and value is not None]
    model = identity(policy.model)
    return rows + [(f"model.{key}", str(value)) for key, value in model.items() if value not in (None, False)]
