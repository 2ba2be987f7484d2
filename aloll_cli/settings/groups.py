"""The choices of each group of options; plugins (plugins.py) add theirs."""

from __future__ import annotations

from aloll_cli.judging.by_reward import ByReward
from aloll_cli.judging.human import Human
from aloll_cli.judging.llm import Llm
from aloll_cli.judging.rubric import Rubric
from aloll_cli.models.adapters import Given, Lora
from aloll_cli.models.decoding import Beam, Greedy, Sample
from aloll_cli.models.optimizers import Adamw
from aloll_cli.models.pretrained import Pretrained
from aloll_cli.models.scratch import Scratch
from aloll_cli.rewards.base import Reward
from aloll_cli.runtime.tracking import Off, Tensorboard, Trackio, Wandb
from aloll_cli.schema import discover
from aloll_cli.settings.reference import AsLoaded, Trained
from aloll_cli.tasks.base import Task
from aloll_cli.training.sampling import All, Priority, Uniform
from aloll_cli.training.selection import Best, Last
from aloll_cli.values.base import Values
from aloll_cli.variants.base import Variant

GROUPS: dict[str, dict[str, type]] = {
    "task": discover("aloll_cli.tasks", Task),  # type: ignore[type-abstract]
    "reward": discover("aloll_cli.rewards", Reward),  # type: ignore[type-abstract]
    "variant": discover("aloll_cli.variants", Variant),  # type: ignore[type-abstract]
    "model": {"scratch": Scratch, "pretrained": Pretrained},
    "adapter": {"lora": Lora, "pretrained": Given},
    "reference": {"trained": Trained, "pretrained": AsLoaded},
    "values": discover("aloll_cli.values", Values),  # type: ignore[type-abstract]
    "sampling": {"priority": Priority, "uniform": Uniform, "all": All},
    "optimizer": {"adamw": Adamw},
    "generation": {"greedy": Greedy, "beam": Beam, "sample": Sample},
    "judge": {"human": Human, "llm": Llm, "reward": ByReward},
    "rubric": {"rubric": Rubric},
    "select": {"best": Best, "last": Last},
    "tracking": {"off": Off, "wandb": Wandb, "tensorboard": Tensorboard, "trackio": Trackio},
}
