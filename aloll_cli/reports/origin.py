"""How a run was made, as rows of the page: commands, versions, machine, times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aloll_cli.comparison.builds import builds_of
from aloll_cli.comparison.runs import Run
from aloll_cli.reports.text import duration

NOT_RECORDED = "not recorded: its artifacts were removed, or built by an older version"


@dataclass(frozen=True)
class Origin:
    """How one run was made.

    Attributes:
        name: of the run.
        about: name and value: commands, versions, machines.
        stages: artifact, stage, when it was begun, time, peak memory in MiB.
        made_of: role and folder of the artifacts that matter most.
        yaml: the configuration.
    """

    name: str
    about: list[tuple[str, str]]
    stages: list[tuple[str, str, str, str, str]]
    made_of: list[tuple[str, str]]
    yaml: str


def origin(run: Run, name: str) -> Origin:
    """How a run was made, as far as its artifacts say."""
    builds = builds_of(run.folder)
    if not builds.known:
        about = [("command", NOT_RECORDED)]
    else:
        about = [("command", command) for command in builds.all("command")]
        about += [
            ("versions", ", ".join(f"{name} {number}" for name, number in found.items())) for found in builds.all("versions")
        ]
        about += [("machine", _machine(machine)) for machine in builds.machines]
        if any(found["sessions"] > 1 for found in builds.known.values()):
            about.append(("resumed", ", ".join(name for name, found in builds.known.items() if found["sessions"] > 1)))
        if builds.unknown:
            about.append(("not recorded", ", ".join(builds.unknown)))
    stages = [
        (
            name,
            found["stage"],
            found["began"].replace("T", " ").replace("+00:00", " UTC"),
            duration(found["seconds"]),
            _peak(found),
        )
        for name, found in builds.known.items()
    ]
    return Origin(name, about, stages, list(run.made_of.items()), run.yaml)


def _machine(machine: dict[str, Any]) -> str:
    gpus = machine["gpus"]
    devices = [f"{gpus.count(gpu)} × {gpu}" for gpu in dict.fromkeys(gpus)]
    return ", ".join([*devices, f"{machine['cores']} × {machine['cpu']}", f"{machine['memory_gib']} GiB", machine["system"]])


def _peak(found: dict[str, Any]) -> str:
    gpu = found["peak_gpu_memory_mib"]
    return f"{found['peak_memory_mib']:,}" + ("" if gpu is None else f", GPU {gpu:,}")
