"""The table of `aloll plan estimate=true`: what is left to do, and how long it takes."""

from __future__ import annotations

from aloll_cli.artifacts.costs import Sizes, Work
from aloll_cli.artifacts.pipeline import Pipeline
from aloll_cli.artifacts.policy import TrainedPolicy
from aloll_cli.runtime.device import uses_gpu
from aloll_cli.runtime.terminal import results
from aloll_cli.store.inventory import size
from aloll_cli.store.store import Artifact, Store

WORDS = {"trained": "trained", "scored": "scored", "read": "prompts read", "generated": "generated"}
LONG = 3600.0  # seconds
STATE, WEIGHT = 12, 4  # bytes of a trained weight in a checkpoint (with two moments of the optimizer), and of one that is saved


def show_estimate(line: Pipeline, store: Store) -> None:
    """Print the work that is left, after timing some of it; builds the examples, and loads the model."""
    from aloll_cli.artifacts.speed import left_of, shape_of, timed

    store.ensure(line.examples)
    sizes = Sizes.of(line.examples, store)
    left = left_of(line.metrics, store, sizes)
    if not left or not store.world.is_main:
        return
    shape = shape_of(line, store)
    speed = timed(line, sizes, store)
    results.print("")
    tokens = f"prompts of {sizes.prompt_tokens:.0f} tokens, responses of {sizes.response_tokens:.0f}"
    where = f"estimate for this machine ({store.world.device.type}), from a few timed passes"
    results.print(f"{where}: {shape.total / 1e6:,.1f} M weights, {tokens}", markup=False)
    width = max(len(artifact.folder) for artifact in left)
    for artifact, done in left.items():
        row = (
            artifact.folder.ljust(width),
            _clock(speed.seconds(done)).rjust(8),
            _flops(shape.flops(done, sizes)).rjust(11),
            _passes(done),
        )
        results.print("  ".join(row), markup=False)
    everything = sum(left.values(), Work())
    policies = sum(isinstance(artifact, TrainedPolicy) for artifact in left)
    saved = speed.trainable if line.settings.adapter else shape.total
    disk = policies * (2 * WEIGHT * saved + STATE * speed.trainable * store.runtime.keep_checkpoints)
    spent = f"about {_clock(speed.seconds(everything))}, {_flops(shape.flops(everything, sizes))}"
    room = f"at least {size(speed.memory)} of memory and {size(disk)} of disk"
    results.print(f"in all {spent}, {room}; data and rewards apart", markup=False)


def warn_if_long(line: Pipeline, last: Artifact, store: Store) -> None:
    """Say at once that what is left until an artifact is there will take over an hour on the CPU; builds the examples."""
    if store.world.decide(lambda: store.is_complete(last)):
        return
    store.ensure(line.examples)
    if not uses_gpu():
        store.world.on_main(lambda: _warn(line, last, store))


def _warn(line: Pipeline, last: Artifact, store: Store) -> None:
    from aloll_cli.artifacts.speed import rough

    try:
        seconds = rough(line, last, store) / store.world.size
    except (AttributeError, RuntimeError, TypeError, ValueError) as error:  # a model that has no weightless form; only a hint
        store.log.detail(f"how long this takes cannot be told from the model's configuration: {error}")
        return
    if seconds > LONG:
        store.log.warn(
            f"this will take very roughly {_clock(seconds)} on the CPU. Parts and seconds: {store.command.but('plan')} "
            "estimate=true. For a first try: task.limit=500 task.limit_eval=100 updates=50"
        )


def _passes(done: Work) -> str:
    """``12,800 trained, 12,240 scored``."""
    return ", ".join(f"{getattr(done, name):,.0f} {word}" for name, word in WORDS.items() if getattr(done, name))


def _flops(count: float) -> str:
    for unit, name in ((1e15, "P"), (1e12, "T")):
        if count >= unit:
            return f"{count / unit:,.1f} {name}FLOP"
    return f"{count / 1e9:,.1f} GFLOP"


def _clock(seconds: float) -> str:
    """``40 s``, ``12 min``, ``3.4 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
