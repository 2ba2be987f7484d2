"""Artifacts, and the store that makes them like make does: what is there is reused, what is missing is made.

An artifact lives in ``outputs/<task>/<kind>/<name>-<fingerprint>/``. The fingerprint is a hash of its recipe, known before
anything runs: its kind and version, its identity, and the recipes of its inputs. It is made in a folder ending in
``.partial``, continued there if interrupted, and appears by one rename after ``manifest.json``, the last file, was written.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from aloll_cli.command import Command
from aloll_cli.errors import UserError
from aloll_cli.files import full_disk, write_text
from aloll_cli.runtime.options import Busy, Runtime, Upstream
from aloll_cli.runtime.terminal import Log
from aloll_cli.runtime.world import World
from aloll_cli.schema import fingerprint
from aloll_cli.stopping import Stopper
from aloll_cli.store.locks import ArtifactLock, Presence
from aloll_cli.store.manifest import damage_of, write_manifest

POLL = 0.2  # seconds between two looks at a lock


class Artifact(ABC):
    """Something that is made once from a recipe."""

    kind: str
    version: ClassVar[int] = 1

    resumes: ClassVar[bool] = True  # whether an interrupted making goes on where it stood, or starts again

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
        stopper: knows whether to stop where work can be left.
    """

    directory: Path
    store: Store
    runtime: Runtime
    world: World
    log: Log
    stopper: Stopper

    def path(self, artifact: Artifact) -> Path:
        """The directory of an input."""
        return self.store.path(artifact)


class Store:
    """The folder of one task's artifacts."""

    def __init__(
        self, root: Path, runtime: Runtime, world: World, stopper: Stopper, command: Command, config: dict[str, Any]
    ) -> None:
        """Open the folder ``root``; nothing is made yet.

        Args:
            root: ``outputs/<task>``.
            runtime: options that cannot change a result.
            world: the processes that work together.
            stopper: knows whether to stop where work can be left.
            command: what the user typed, for messages.
            config: the configuration as plain values, kept beside what is made.
        """
        self.root, self.runtime, self.world, self.stopper, self.command = root, runtime, world, stopper, command
        self._config = config
        self.log = self._log_to(None)
        self._verified: set[str] = set()
        self._presence: Presence | None = None  # keeps aloll clean away

    def path(self, artifact: Artifact) -> Path:
        """Where an artifact is, or will be."""
        return self.root / artifact.folder

    def ensure(self, artifact: Artifact, wanted: bool = True) -> Path:
        """Make an artifact unless it is there, and before it whatever it needs.

        Args:
            artifact: what to make.
            wanted: whether the stage asked for it, rather than something downstream (``upstream=require`` refuses those).

        Raises:
            UserError: an artifact is damaged, missing where ``upstream=require``, or in other hands where ``busy=refuse``.
            Interrupted: somebody asked to stop.
        """
        if artifact.fingerprint in self._verified:
            return self.path(artifact)
        if self.world.is_main and self._presence is None:
            self._presence = Presence(self.root)
        if not self.world.decide(lambda: self.is_complete(artifact)):
            if self.runtime.upstream is Upstream.require and not wanted:
                raise UserError(
                    f"{artifact.folder} is missing, and upstream=require forbids making it.",
                    f"Make it with: {self.command.but(artifact.stage, 'upstream=require')}",
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
            UserError: it is there, but a file is missing, truncated, altered or too many.
        """
        directory = self.path(artifact)
        if not directory.exists():
            return False
        damage = damage_of(directory)
        if damage is None:
            return True
        if damage.stray is not None:
            hint = f"Move it elsewhere, or remove it: {shlex.join(['rm', str(damage.stray)])}"
        else:
            hint = f"Remove it and make it again: {shlex.join(['rm', '-r', str(directory)])} && {self.command}"
        raise UserError(f"{directory} is damaged: {damage.what}.", hint)

    def _make(self, artifact: Artifact) -> None:
        if self.world.decide(lambda: self.stopper.requested):
            raise self.stopper.interruption()
        directory = self.path(artifact)
        partial = directory.with_name(directory.name + ".partial")
        start = time.monotonic()
        self.world.wait()
        goes_on = artifact.resumes and partial.exists()
        self.world.wait()
        try:
            if self.world.is_main:
                if not goes_on:
                    shutil.rmtree(partial, ignore_errors=True)
                partial.mkdir(parents=True, exist_ok=True)
                write_text(partial / "recipe.json", json.dumps(artifact.recipe, indent=1, sort_keys=True))
                write_text(partial / "config.yaml", _yaml(self._config))
            self.world.wait()
            log = self._log_to(partial / "log.txt")
            log.say(f"{'resumes' if goes_on else 'makes  '} {artifact.folder}")
            artifact.make(Job(partial, self, self.runtime, self.world, log, self.stopper))
            self.world.wait()
            if self.world.is_main:
                write_manifest(partial)
        except Exception as error:
            shown = error if isinstance(error, UserError) else full_disk(error, partial)
            if shown is None:
                raise
            if self.world.is_main:
                _tidy(partial)
            raise shown from None
        if self.world.is_main:
            os.rename(partial, directory)
        self.world.wait()
        self.log.say(f"made    {artifact.folder}")
        self.log.detail(f"        in {time.monotonic() - start:.1f} s; {_peak_memory():,} MiB of memory at most until here")

    def _log_to(self, file: Path | None) -> Log:
        is_main = self.world.is_main
        return Log(file if is_main else None, self.runtime.verbosity, muted=not is_main)

    def _lock(self, artifact: Artifact) -> Any:
        return self._main_lock(artifact) if self.world.is_main else nullcontext()

    @contextmanager
    def _main_lock(self, artifact: Artifact) -> Iterator[None]:
        """Saves work only: it is the rename that commits."""
        lock = ArtifactLock(self.root, artifact.folder)
        if not lock.try_acquire(patience=POLL):
            if self.runtime.busy is Busy.refuse:
                raise UserError(
                    f"{artifact.folder} is being made by {lock.holder()}.", "Wait for it, or let aloll wait: busy=wait"
                )
            self.log.say(f"waits   {artifact.folder}: {lock.holder()} is making it")
            while not lock.try_acquire():
                self.stopper.check()
                time.sleep(POLL)
        try:
            yield
        finally:
            lock.release()


def upstream(artifact: Artifact) -> list[Artifact]:
    """Every artifact that one is made from, directly or not, each once and after its own inputs."""
    found: dict[str, Artifact] = {}
    for needed in artifact.inputs().values():
        found |= {before.fingerprint: before for before in upstream(needed)} | {needed.fingerprint: needed}
    return list(found.values())


def _tidy(partial: Path) -> None:
    """Leave of a failed making what the next one can go on with: whole blocks and whole checkpoints; or nothing."""
    if any(partial.rglob("part-*.parquet")) or any(partial.glob("checkpoints/update-*")):
        for stale in [*partial.rglob(".*.tmp")]:
            shutil.rmtree(stale) if stale.is_dir() else stale.unlink(missing_ok=True)
        return
    shutil.rmtree(partial, ignore_errors=True)
    with suppress(OSError):  # other artifacts are in there
        partial.parent.rmdir()


def _peak_memory() -> int:
    """MiB that this process had at most so far."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def _yaml(config: dict[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
