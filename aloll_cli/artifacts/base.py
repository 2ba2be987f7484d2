"""Artifacts, and the store that makes them like make does: what is there is reused, what is missing is made.

An artifact lives in ``outputs/<task>/<kind>/<name>-<fingerprint>/``. The fingerprint is a hash of its recipe, known before
anything runs: its kind and version, its identity, and the recipes of its inputs. It is made in a folder ending in
``.partial``, continued there if interrupted, and appears by one rename after ``manifest.json``, the last file, was written.
"""

from __future__ import annotations

import json
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from aloll_cli.config import fingerprint
from aloll_cli.errors import UserError
from aloll_cli.files import sha256
from aloll_cli.settings import Runtime
from aloll_cli.terminal import Log
from aloll_cli.world import World

NOT_IN_MANIFEST = ("manifest.json", "log.txt")


class Artifact(ABC):
    """Something that is made once from a recipe."""

    kind: str
    version: ClassVar[int] = 1

    name: str  # what a person reads in the folder's name
    stage: str  # the command that makes it

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """What decides the result, beside the inputs; plain values."""

    @abstractmethod
    def inputs(self) -> dict[str, Artifact]:
        """What must be there before, by the role it plays."""

    @abstractmethod
    def make(self, job: Job) -> None:
        """Write the files into ``job.directory``, or continue where an interrupted run left it."""

    @cached_property
    def recipe(self) -> dict[str, Any]:
        """All that decides the result, as plain nested values."""
        inputs = {role: artifact.recipe for role, artifact in self.inputs().items()}
        return {"kind": self.kind, "version": self.version, "identity": self.identity(), "inputs": inputs}

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint(self.recipe)

    @property
    def folder(self) -> str:
        """``<kind>/<name>-<fingerprint>``."""
        return f"{self.kind}/{self.name}-{self.fingerprint}"


@dataclass(frozen=True)
class Job:
    """One making of an artifact.

    Attributes:
        directory: where the files go.
        store: where the inputs are.
        runtime: options that cannot change the result.
        world: the processes that work together.
        log: the terminal and the artifact's log file.
    """

    directory: Path
    store: Store
    runtime: Runtime
    world: World
    log: Log

    def path(self, artifact: Artifact) -> Path:
        """The directory of an input."""
        return self.store.path(artifact)


class Store:
    """The folder of one task's artifacts."""

    def __init__(self, root: Path, runtime: Runtime, world: World, config: dict[str, Any], require: bool = False) -> None:
        self.root, self.runtime, self.world, self._config, self._require = root, runtime, world, config, require
        self.log = Log(quiet=not world.is_main)
        self._verified: set[str] = set()

    def path(self, artifact: Artifact) -> Path:
        """Where an artifact is, or will be."""
        return self.root / artifact.folder

    def ensure(self, artifact: Artifact, wanted: bool = True) -> Path:
        """Make an artifact unless it is there, and before it whatever it needs.

        Args:
            artifact: what to make.
            wanted: whether the stage asked for it, rather than something downstream (``upstream=require`` refuses those).

        Raises:
            UserError: an artifact is damaged, or missing where ``upstream=require``.
        """
        if artifact.fingerprint in self._verified:
            return self.path(artifact)
        if not self.world.decide(lambda: self.is_complete(artifact)):
            if self._require and not wanted:
                raise UserError(
                    f"{artifact.folder} is missing, and upstream=require forbids making it.",
                    f"Make it with: aloll {artifact.stage} …  or leave upstream=make.",
                )
            # inputs of inputs too: making may read them, and what is altered must not be used
            for needed in upstream(artifact):
                self.ensure(needed, wanted=False)
            with self._lock(artifact):
                if self.world.decide(lambda: not self.is_complete(artifact)):
                    self._make(artifact)
                    self._verified.add(artifact.fingerprint)
                    return self.path(artifact)
        self.log.say(f"reused  {artifact.folder}")
        self._verified.add(artifact.fingerprint)
        return self.path(artifact)

    def is_complete(self, artifact: Artifact) -> bool:
        """Whether an artifact is there and whole.

        Raises:
            UserError: it is there, but a file is missing, truncated or altered.
        """
        directory = self.path(artifact)
        if not directory.exists():
            return False
        damage = damage_of(directory)
        if damage:
            raise UserError(
                f"{directory} is damaged: {damage}.",
                f"Remove it and make it again: rm -r {directory} && aloll {artifact.stage} …",
            )
        return True

    def _make(self, artifact: Artifact) -> None:
        directory = self.path(artifact)
        partial = directory.with_name(directory.name + ".partial")
        resumed = partial.exists()
        self.world.wait()
        if self.world.is_main:
            partial.mkdir(parents=True, exist_ok=True)
            (partial / "recipe.json").write_text(json.dumps(artifact.recipe, indent=1, sort_keys=True))
            (partial / "config.yaml").write_text(_yaml(self._config))
        self.world.wait()
        log = Log(partial / "log.txt" if self.world.is_main else None, quiet=not self.world.is_main)
        log.say(f"{'resumes' if resumed else 'makes'} {artifact.folder}")
        try:
            artifact.make(Job(partial, self, self.runtime, self.world, log))
        except UserError:
            if self.world.is_main and not resumed and not _has_progress(partial):
                shutil.rmtree(partial)
            raise
        self.world.wait()
        if self.world.is_main:
            write_manifest(partial)
            os.rename(partial, directory)
        self.world.wait()
        log = Log(quiet=not self.world.is_main)
        log.say(f"made    {artifact.folder}")

    def _lock(self, artifact: Artifact) -> Any:
        return self._main_lock(artifact) if self.world.is_main else nullcontext()

    @contextmanager
    def _main_lock(self, artifact: Artifact) -> Iterator[None]:
        """Saves work only: it is the rename that commits."""
        from filelock import FileLock, Timeout

        directory = self.path(artifact)
        file = directory.with_name(directory.name + ".lock")
        _make_folder(file.parent)
        holder = file.with_suffix(".holder")
        lock = FileLock(file)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            who = holder.read_text() if holder.exists() else "another process"
            self.log.say(f"waits   {artifact.folder}: {who} is making it")
            lock.acquire()
        try:
            holder.write_text(f"process {os.getpid()} on {os.uname().nodename}")
            yield
        finally:
            holder.unlink(missing_ok=True)
            lock.release()


def upstream(artifact: Artifact) -> list[Artifact]:
    """Every artifact that one is made from, directly or not, each once and after its own inputs."""
    found: dict[str, Artifact] = {}
    for needed in artifact.inputs().values():
        found |= {before.fingerprint: before for before in upstream(needed)} | {needed.fingerprint: needed}
    return list(found.values())


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (NotADirectoryError, FileExistsError, PermissionError) as error:
        raise UserError(
            f"output_dir: {error.filename} cannot be used as a folder: {error.strerror}.", "output_dir=FOLDER"
        ) from None


def _has_progress(partial: Path) -> bool:
    return any(file.name not in ("recipe.json", "config.yaml", "log.txt") for file in partial.rglob("*") if file.is_file())


def _yaml(config: dict[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(config, sort_keys=False, allow_unicode=True)


def files_of(directory: Path) -> list[Path]:
    """Every file that a manifest lists, in order."""
    return sorted(f for f in directory.rglob("*") if f.is_file() and f.name not in NOT_IN_MANIFEST)


def write_manifest(directory: Path) -> None:
    """Sizes and checksums of every file; the last file to be written."""
    files = {
        str(file.relative_to(directory)): {"bytes": file.stat().st_size, "sha256": sha256(file)} for file in files_of(directory)
    }
    (directory / "manifest.json").write_text(json.dumps({"files": files}, indent=1))


def damage_of(directory: Path) -> str | None:
    """What is wrong with a finished artifact's files, or None."""
    try:
        listed = json.loads((directory / "manifest.json").read_text())["files"]
    except (OSError, ValueError, KeyError):
        return "its manifest.json cannot be read"
    for name, entry in listed.items():
        file = directory / name
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != entry["bytes"]:
            return f"{name} has {file.stat().st_size} bytes instead of {entry['bytes']}"
        if sha256(file) != entry["sha256"]:
            return f"{name} was altered (its checksum differs)"
    return None
