"""The stages: one module each with ``run(settings, store)``. A stage is a name for the artifacts it makes.

What each stage reads is declared here, once: help, shell completion, checks and tests all take it from this table.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from aloll_cli.command import Command


@dataclass(frozen=True)
class Stage:
    """What a stage does and which options it reads.

    Attributes:
        what: one line.
        groups: its own groups of options.
        options: its own options outside of any group.
        makes: the artifacts that it builds, as attributes of Pipeline; only the options of these are checked against each other.
        after: the stages before it, whose options it needs too.
        filters: whether options that it does not read itself are conditions on what it lists.
    """

    what: str
    groups: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    makes: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    filters: bool = False


_TRAINED = ("train-reference", "score-rewards", "precompute-values", "train")

LINE = {
    "train-reference": Stage(
        "fine-tune the reference policy π_ref by NLL; keep the best checkpoint by validation NLL",
        groups=("task", "model", "reference", "adapter"),
        makes=("reference",),
    ),
    "score-rewards": Stage(
        "compute the reward of every logged response",
        groups=("task", "reward", "model"),
        makes=("rewards",),
    ),
    "precompute-values": Stage(
        "generate π_ref's samples and compute V(x)",
        groups=("values", "generation"),
        makes=("values",),
        after=("train-reference", "score-rewards"),
    ),
    "train": Stage(
        "train a policy with one variant (loss); store the reference log-probs that it needs",
        groups=("variant", "sampling", "optimizer", "adapter", "generation", "select"),
        options=(
            "seed", "updates", "epochs", "rounds", "round_prompts", "samples", "batch_size", "weight_loss", "clamp", "reduction",
            "eval_every", "eval_prompts", "early_stop",
        ),
        makes=("policy",),
        after=_TRAINED[:3],
    ),
    "evaluate": Stage(
        "generate responses to the test prompts with policy and reference, and compare them",
        groups=("generation", "test_reward"),
        options=("policy", "split", "references", "words", "resamples"),
        makes=("metrics",),
        after=_TRAINED,
    ),
    "report": Stage(
        "write an HTML page about one or more runs, and with figures= figures for a paper",
        options=("runs", "against", "best_of", "figures"),
        makes=("metrics",),
        after=(*_TRAINED, "evaluate"),
    ),
}  # fmt: skip

BESIDE = {
    "generate": Stage(
        "respond to the prompts of a split or to your own, with rewards: to try a model, or to write rows for task=local",
        groups=("generation",),
        options=(
            "prompt",
            "prompts",
            "split",
            "first",
            "samples",
            "max_tokens",
            "score",
            "policy",
            "side_by_side",
            "to",
        ),
        makes=("policy",),
        after=_TRAINED,
    ),
    "chat": Stage(
        "talk to a policy in the terminal, by its chat template",
        groups=("generation",),
        options=("max_tokens", "policy", "side_by_side"),
        makes=("policy",),
        after=_TRAINED,
    ),
    "runs": Stage(
        "list the evaluated runs under the output folder, one line each; variant=seq, say, lists those with that option",
        options=("where", "sort", "format"),
        after=(*_TRAINED, "evaluate"),
        filters=True,
    ),
    "compare": Stage(
        "compare evaluated runs: one row per method, paired differences, training costs",
        options=("runs", "against", "best_of", "format", "to"),
        after=(*_TRAINED, "evaluate"),
    ),
    "judge": Stage(
        "let people, a chat model or a reward say which of two responses is better: policy and reference, or two runs",
        groups=("judge", "rubric"),
        options=("runs", "votes", "format"),
        makes=("metrics",),
        after=(*_TRAINED, "evaluate"),
    ),
    "inspect": Stage(
        "show what the model will see: examples, lengths, truncation, duplicates, rewards",
        groups=("task",),
        options=("format", "words"),
        makes=("examples", "rewards"),
        after=("score-rewards",),
    ),
    "plan": Stage(
        "show what would be built, which options differ from existing artifacts, and how long it takes",
        options=("estimate",),
        makes=("metrics",),
        after=(*_TRAINED, "evaluate"),
    ),
    "ls": Stage("list the artifacts under the output folder: state, size, age, and what uses them"),
    "clean": Stage("remove unreferenced artifacts, after listing them and asking", options=("ask",)),
    "verify": Stage("check every checksum under the output folder, and name all that is damaged", options=("repair",)),
    "export": Stage(
        "write the policy to a folder for from_pretrained, with a model card; with push= upload it to the hub",
        options=("to", "push", "merge", "policy"),
        makes=("policy",),
        after=_TRAINED,
    ),
}

LINE["run"] = Stage(
    "run all of the above",
    groups=("task", "model", "reward", "values", "variant"),
    options=(*LINE["train"].options, *LINE["evaluate"].options),
    makes=("metrics",),
    after=tuple(LINE),
)

STAGES = LINE | BESIDE

# of these none changes a result by more than rounding; only stages that build artifacts read the second line's
EVERYWHERE = ("output_dir", "plugins", "verbosity")
BUILDING = (
    "run", "upstream", "busy", "processes", "strategy", "device", "threads", "micro_batch_size", "gradient_checkpointing",
    "deterministic", "attn", "scoring_batch_tokens", "generation_batching", "checkpoint_every", "keep_checkpoints",
    "max_hours",
)  # fmt: skip
RUNNING = (*EVERYWHERE, *BUILDING)
RUNNING_GROUPS = ("tracking",)


def running(name: str) -> Stage:
    """The operational options and groups that a stage reads."""
    return Stage("", RUNNING_GROUPS, RUNNING) if STAGES[name].makes else Stage("", (), EVERYWHERE)


def read_by(name: str) -> tuple[str, ...]:
    """Every option and group that a stage reads: its own, those of the stages before it, and operational ones."""
    stages = [*(STAGES[stage] for stage in (name, *upstream(name))), running(name)]
    experiment = ("experiment",) if STAGES[name].makes or STAGES[name].after else ()
    return tuple(dict.fromkeys([*(key for stage in stages for key in (*stage.groups, *stage.options)), *experiment]))


def command_of(stage: str, arguments: Iterable[str] = ()) -> Command:
    """The command line of a stage, which knows what every stage reads."""
    return Command(stage, tuple(arguments), {name: read_by(name) for name in STAGES})


def upstream(name: str) -> list[str]:
    """The stages before one, in order."""
    return [stage for stage in STAGES if stage in STAGES[name].after]
