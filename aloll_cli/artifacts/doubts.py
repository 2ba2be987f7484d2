"""Whether V(x) and the samples that it comes from are those that a method needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aloll_cli.artifacts.generations import Generations
from aloll_cli.models.decoding import Sample
from aloll_cli.schema import name_of

if TYPE_CHECKING:
    from aloll_cli.artifacts.rewards import Rewards
    from aloll_cli.artifacts.values import ValuesArtifact
    from aloll_cli.variants.base import Regression


def doubt_values(variant: Regression, artifact: ValuesArtifact | None) -> str | None:
    """A warning where V(x) is a mean, and the method's is β ln E e^{R/β}; None: there is nothing to doubt."""
    if artifact is None or artifact.values.is_soft or not variant.soft_values:
        return None
    return (
        f"V(x) of variant={name_of(variant)} is β ln E e^(R/β) in its source, and values={name_of(artifact.values)} estimates a "
        "mean: the targets of a prompt are too high then, the more so the more its rewards vary; values=soft has that V(x)"
    )


def doubt_samples(variant: Regression, artifact: ValuesArtifact | None, samples: Rewards | None) -> str | None:
    """A warning where samples are of another distribution than π_ref, and the method needs its own; None otherwise.

    Args:
        variant: the method.
        artifact: its V(x), which may be estimated from samples.
        samples: rewards of samples that it compares responses with.
    """
    samples = samples or (artifact.samples if artifact and artifact.values.is_soft else None)
    source = samples.source if samples else None
    if not isinstance(source, Generations) or not isinstance(source.generation, Sample):
        return None
    used = source.generation
    changed = [f"{name}={getattr(used, name):g}" for name in ("top_p", "temperature") if getattr(used, name) != 1]
    if not changed:
        return None
    return (
        f"samples with {' and '.join(changed)} are not samples of the reference itself, which variant={name_of(variant)} needs: "
        "values.top_p=1 values.temperature=1"
    )
