"""build.json: how an artifact was built, with which command, versions and machine, how long it took, and from what.

It says nothing about the content: like log.txt it is no part of a recipe, and no manifest lists it.
"""

from __future__ import annotations

import os
import platform
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from aloll_cli.files import write_json
from aloll_cli.foreign import Unreadable, dict_of, inner_path, integer, json_of, list_of, number, optional, record, text

BUILD = "build.json"
PACKAGES = ("aloll", "torch", "transformers", "tokenizers", "peft", "numpy")
MACHINE = record({"cpu": text, "cores": integer, "memory_gib": number, "gpus": list_of(text), "system": text})
SHAPE = record(
    {
        "stage": text, "command": text, "began": text, "sessions": integer, "seconds": number, "processes": integer,
        "peak_memory_mib": integer, "peak_gpu_memory_mib": optional(integer), "machine": MACHINE, "versions": dict_of(text),
        "inputs": list_of(inner_path),
    }
)  # fmt: skip


@dataclass(frozen=True)
class About:
    """What is known of a build before it begins.

    Attributes:
        stage: the subcommand that builds such artifacts.
        command: what the user typed.
        processes: that build it together.
        inputs: the folders of what it is built from, below the task's folder.
    """

    stage: str
    command: str
    processes: int
    inputs: Sequence[str]


@contextmanager
def noting(folder: Path, about: About) -> Iterator[None]:
    """Write build.json while something is built in a folder: at the beginning, and again with the time at the end.

    The seconds of an interrupted build are added up; those of one that was killed are not known, and ``sessions`` counts it.
    """
    before = built(folder) or {"seconds": 0.0, "sessions": 0}
    began, start = datetime.now(UTC), time.monotonic()

    def note() -> None:
        found = {
            "stage": about.stage, "command": about.command,
            "began": before.get("began", began.isoformat(timespec="seconds")),
            "sessions": before["sessions"] + 1, "seconds": round(before["seconds"] + time.monotonic() - start, 3),
            "processes": about.processes, "peak_memory_mib": peak_memory(), "peak_gpu_memory_mib": _peak_gpu_memory(),
            "machine": _machine() | {"gpus": _gpus()}, "versions": _versions(), "inputs": [*about.inputs],
        }  # fmt: skip
        write_json(folder / BUILD, found)

    note()
    try:
        yield
    finally:
        note()


def built(folder: Path) -> dict[str, Any] | None:
    """The content of an artifact's build.json; None where it has none that can be read, as of older versions."""
    try:
        found: dict[str, Any] = json_of(folder / BUILD)
        SHAPE(found, "")
    except (OSError, Unreadable):
        return None
    return found


def peak_memory() -> int:
    """Peak memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def _peak_gpu_memory() -> int | None:
    """Peak memory that PyTorch has allocated on this process's GPU so far, in MiB; None without a GPU."""
    torch = sys.modules.get("torch")
    return int(torch.cuda.max_memory_allocated()) // 2**20 if torch and torch.cuda.is_initialized() else None


def _gpus() -> list[str]:
    """The names of the GPUs that PyTorch uses; a command that needs no model does not load it."""
    torch = sys.modules.get("torch")
    if not torch or not torch.cuda.is_initialized():
        return []
    return [str(torch.cuda.get_device_name(place)) for place in range(torch.cuda.device_count())]


@cache
def _machine() -> dict[str, Any]:
    return {
        "cpu": _cpu(), "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
    }  # fmt: skip


def _cpu() -> str:
    with suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@cache
def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
