"""How an evaluated run was built, stage by stage: time, memory, machine, versions, commands."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aloll_cli.store.built import built

LINE = ("train-reference", "score-rewards", "precompute-values", "train", "evaluate")  # the stages in their order
MOST = 10_000  # artifacts that are looked at; a run of fifty rounds has some hundred


@dataclass(frozen=True)
class Builds:
    """The artifacts that an evaluated run was made of, with what build.json of each says.

    Attributes:
        known: by folder, ``kind/name``, in the order in which they were begun.
        unknown: the folders without such a note: removed, or built by an older version.
    """

    known: dict[str, dict[str, Any]]
    unknown: list[str]

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds of building by stage, in the order of the stages."""
        found = Counter[str]()
        for one in self.known.values():
            found[one["stage"]] += one["seconds"]
        return {stage: found[stage] for stage in sorted(found, key=_place)}

    @property
    def peak_memory(self) -> dict[str, int]:
        """The most memory of a process that built something, in MiB: ``memory``, and ``GPU memory`` where one was used."""
        kinds = {"memory": "peak_memory_mib", "GPU memory": "peak_gpu_memory_mib"}
        found = {name: [one[key] for one in self.known.values() if one[key] is not None] for name, key in kinds.items()}
        return {name: max(values) for name, values in found.items() if values}

    @property
    def machines(self) -> list[dict[str, Any]]:
        """The machines that built something; one that used no GPU for some artifacts is the same."""
        found: dict[tuple[Any, ...], dict[str, Any]] = {}
        for one in self.known.values():
            machine = one["machine"]
            key = (machine["cpu"], machine["cores"], machine["memory_gib"], machine["system"])
            if key not in found or machine["gpus"]:
                found[key] = machine
        return list(found.values())

    def all(self, key: str) -> list[Any]:
        """The distinct values of a key, such as ``command`` or ``versions``, in the order in which artifacts were begun."""
        found: list[Any] = []
        for one in self.known.values():
            found += [] if one[key] in found else [one[key]]
        return found


def builds_of(folder: Path) -> Builds:
    """The builds behind a folder of metrics."""
    root = folder.parent.parent
    left, known, unknown = [f"{folder.parent.name}/{folder.name}"], dict[str, dict[str, Any]](), list[str]()
    while left and len(known) + len(unknown) < MOST:
        name = left.pop()
        if name in known or name in unknown:
            continue
        found = built(root / name)
        if found is None:
            unknown.append(name)
        else:
            known[name] = found
            left += found["inputs"]
    return Builds(dict(sorted(known.items(), key=lambda item: item[1]["began"])), unknown)


def _place(stage: str) -> tuple[int, str]:
    return (LINE.index(stage) if stage in LINE else len(LINE), stage)
