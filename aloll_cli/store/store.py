"""Artifacts, and the store that builds the missing ones, like make.

An artifact is a folder ``outputs/<task>/<kind>/<name>-<fingerprint>/``. The fingerprint is a hash of its recipe, which is known
before anything runs: its kind and version, its identity, and the recipes of its inputs. It is built in a folder that ends in
``.partial``, where an interrupted build is resumed. After ``manifest.json``, the last file, was written the folder is renamed:
then everything in it is on disk. A folder without a readable manifest is unfinished, whatever its name.
"""

from __future__ import annotations

import shlex
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from aloll_cli.command import Command
from aloll_cli.errors import UserError
from aloll_cli.files import of_the_machine
from aloll_cli.runtime.options import Busy, Runtime, Upstream
from aloll_cli.runtime.terminal import Log
from aloll_cli.runtime.world import World
from aloll_cli.schema import fingerprint
from aloll_cli.stopping import Stopper
from aloll_cli.store.building import begin, certify, finish, reopen, tidy
from aloll_cli.store.built import About, noting, peak_memory
from aloll_cli.store.inventory import is_ours
from aloll_cli.store.locks import FOLDER as LOCKS
from aloll_cli.store.locks import ArtifactLock, Presence
from aloll_cli.store.manifest import UNFINISHED, damage_of
from aloll_cli.store.marker import mark, refuse_links
from aloll_cli.store.places import PARTIAL, path_of, seen
from aloll_cli.user_code import plugin_errors

POLL = 0.2  # seconds between two attempts to acquire a lock


class Artifact(ABC):
    """A folder of files that is built once from a recipe."""

    kind: str
    version: ClassVar[int] = 1

    resumes: ClassVar[bool] = True  # whether an interrupted build is resumed; otherwise it starts again

    name: str  # the readable part of the folder's name
    stage: str  # the command that builds it

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Everything besides the inputs that affects the result, as plain values."""

    @abstractmethod
    def inputs(self) -> dict[str, Artifact]:
        """The artifacts that it is built from, by role."""

    def check_input(self, needed: Artifact, store: Store) -> None:  # noqa: B027  most take any
        """Look at an input as soon as it is there, before inputs that cost more are built.

        Args:
            needed: the input, which is complete, as are those before it.
            store: knows where they are.

        Raises:
            UserError: nothing can be built from it.
        """

    @abstractmethod
    def make(self, job: Job) -> None:
        """Write the files into ``job.directory``, or resume an interrupted build there."""

    @cached_property
    def recipe(self) -> dict[str, Any]:
        """Everything that affects the result, as nested plain values."""
        inputs = {role: artifact.recipe for role, artifact in self.inputs().items()}
        return {"kind": self.kind, "version": self.version, "identity": self.identity(), "inputs": inputs}

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint(self.recipe)

    @cached_property
    def input_fingerprints(self) -> set[str]:
        """The fingerprints of its inputs."""
        return {needed.fingerprint for needed in self.inputs().values()}

    @property
    def folder(self) -> str:
        """``<kind>/<name>-<fingerprint>``."""
        return f"{self.kind}/{self.name}-{self.fingerprint}"


@dataclass(frozen=True)
class Job:
    """One build of an artifact.

    Attributes:
        directory: where the files are written.
        store: where the inputs are.
        runtime: options that do not affect the result.
        world: the processes of this command.
        log: the terminal and the artifact's log file.
        stopper: whether a stop was requested.
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
        """Open the folder ``root``; nothing is built yet.

        Args:
            root: ``outputs/<task>``.
            runtime: options that do not affect results.
            world: the processes of this command.
            stopper: whether a stop was requested.
            command: what the user typed, for messages.
            config: the configuration as plain values, saved with every artifact.
        """
        self.root, self.runtime, self.world, self.stopper, self.command = root, runtime, world, stopper, command
        self._config = config
        self.log = self._log_to(None)
        self._verified: set[str] = set()
        self._is_open = False

    def path(self, artifact: Artifact) -> Path:
        """Where an artifact is, or will be."""
        return path_of(artifact, self.root)

    def ensure(self, artifact: Artifact, wanted: bool = True) -> Path:
        """Build an artifact and the inputs it needs, unless they are cached.

        Args:
            artifact: what to build.
            wanted: whether the stage asked for it, or for what it makes itself on the way; ``upstream=require`` builds no more.

        Raises:
            UserError: an artifact is damaged, missing under ``upstream=require``, or locked under ``busy=refuse``.
            Interrupted: a stop was requested.
        """
        if artifact.fingerprint in self._verified:
            return self.path(artifact)
        if not self._is_open:
            self._is_open = True
            self.world.on_main(self._open)
        if not self.world.decide(lambda: self.is_complete(artifact)):
            if self.runtime.upstream is Upstream.require and not wanted:
                raise UserError(
                    f"{artifact.folder} is missing, and upstream=require does not build it.",
                    f"Build it with: {self.command.but(artifact.stage, 'upstream')}",
                )
            # inputs of inputs, too: building may read them, and damaged files must not be used
            planned = upstream(artifact)
            for needed in planned:
                self.ensure(needed, wanted and needed.stage == artifact.stage)
                for user in (*planned, artifact):
                    if needed.fingerprint in user.input_fingerprints and not self.path(user).exists():
                        user.check_input(needed, self)
            with self._lock(artifact):
                if self.world.decide(lambda: not self.is_complete(artifact)):
                    self._build(artifact)
                    self._verified.add(artifact.fingerprint)
                    return seen(self.path(artifact))
        self.log.say(f"cached    {artifact.kind}/{self.path(artifact).name}")
        self._verified.add(artifact.fingerprint)
        return seen(self.path(artifact))

    def _open(self) -> None:
        """Mark the output folder, and keep ``aloll clean`` from removing inputs while this process lives."""
        refuse_links(self.root, within=self.root / LOCKS)
        mark(self.root.parent)
        self._presence = Presence(self.root)

    def is_complete(self, artifact: Artifact) -> bool:
        """Whether an artifact is there and complete; one without a readable manifest is unfinished.

        Raises:
            UserError: it is there, but a file is missing, truncated, changed or unexpected.
        """
        directory = self.path(artifact)
        if not directory.exists():
            return False
        damage = damage_of(directory)
        if damage in (None, UNFINISHED):
            return damage is None
        if damage.stray is not None:
            hint = f"Move it elsewhere or remove it: {shlex.join(['rm', str(damage.stray)])}"
        else:
            hint = f"Remove the artifact and build it again: {shlex.join(['rm', '-r', str(directory)])} && {self.command}"
        raise UserError(f"{directory} is damaged: {damage.what}.", hint)

    def _build(self, artifact: Artifact) -> None:
        if stop := self.world.stopped(self.stopper):
            raise stop
        directory = self.path(artifact)
        partial = directory.with_name(directory.name + PARTIAL)
        start = time.monotonic()
        self.world.on_main(lambda: self._prepare(directory, partial))
        resuming = self.world.decide(lambda: artifact.resumes and partial.exists())
        try:
            if self.world.is_main:
                begin(partial, artifact.recipe, self._config, resuming)
            self.world.wait()
            log = self._log_to(seen(partial) / "log.txt")
            log.say(f"{'resuming' if resuming else 'building'}  {artifact.folder}")
            with plugin_errors(), self._noting(artifact, partial):
                artifact.make(Job(partial, self, self.runtime, self.world, log, self.stopper))
            self.world.wait()
            if self.world.is_main:
                sums = certify(partial)
        except Exception as error:
            shown = error if isinstance(error, UserError) else of_the_machine(error, partial)
            if shown is None:
                raise
            if self.world.is_main:
                tidy(partial)
            raise shown from None
        if self.world.is_main:
            finish(partial, directory, sums)
        self.world.wait()
        self.log.say(f"built     {artifact.folder} in {time.monotonic() - start:.1f} s")
        self.log.detail(f"          peak memory so far: {peak_memory():,} MiB")

    def _prepare(self, directory: Path, partial: Path) -> None:
        """Make an artifact without a readable manifest an interrupted build; nothing is written through links."""
        refuse_links(self.root, directory.parent, directory)
        for path in (directory, partial):
            if path.exists() and not path.is_dir():
                raise UserError(f"{path} is a file, where an artifact's folder belongs.", _elsewhere(path))
        if directory.exists():
            if not is_ours(directory):
                what = f"{directory} has the name of an artifact, and neither its recipe nor its manifest."
                raise UserError(what, _elsewhere(directory))
            self.log.warn(f"{directory} is unfinished: {UNFINISHED.what}")
            reopen(directory, partial)
        refuse_links(within=partial)

    def _noting(self, artifact: Artifact, partial: Path) -> AbstractContextManager[None]:
        """Notes in the main process how an artifact is built."""
        inputs = [str(self.path(needed).relative_to(self.root)) for needed in artifact.inputs().values()]
        about = About(artifact.stage, str(self.command), self.world.size, inputs)
        return noting(partial, about) if self.world.is_main else nullcontext()

    def _log_to(self, file: Path | None) -> Log:
        is_main = self.world.is_main
        return Log(file if is_main else None, self.runtime.verbosity, muted=not is_main)

    def _lock(self, artifact: Artifact) -> Any:
        return self._main_lock(artifact) if self.world.is_main else nullcontext()

    @contextmanager
    def _main_lock(self, artifact: Artifact) -> Iterator[None]:
        """The lock prevents duplicate work; correctness rests on the rename alone."""
        lock = ArtifactLock(self.root, f"{artifact.kind}/{self.path(artifact).name}")
        if not lock.try_acquire(timeout=POLL):
            if self.runtime.busy is Busy.refuse:
                raise UserError(
                    f"{artifact.folder} is being built by {lock.holder()}.", "Wait for it, or let aloll wait: busy=wait"
                )
            self.log.say(f"waiting   {artifact.folder}: {lock.holder()} is building it")
            while not lock.try_acquire():
                self.stopper.check()
                time.sleep(POLL)
        try:
            yield
        finally:
            lock.release()


def upstream(artifact: Artifact, found: dict[str, Artifact] | None = None) -> list[Artifact]:
    """Every artifact that one is built from, directly or not, each once and after its own inputs; ``found`` are known already."""
    found = {} if found is None else found
    for needed in artifact.inputs().values():
        if needed.fingerprint not in found:  # its inputs are known, too; many ways lead to them
            upstream(needed, found)
            found[needed.fingerprint] = needed
    return list(found.values())


def _elsewhere(path: Path) -> str:
    return f"Move it elsewhere: {shlex.join(['mv', str(path), 'elsewhere'])}"
