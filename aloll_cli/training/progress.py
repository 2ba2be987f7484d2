"""What a training run keeps while it goes on: records, checkpoints, candidates for the policy.

A checkpoint's manifest.json lists its own files, and what the run needs beside them: the records so far, and the candidate that
is the best until then. All of it is on disk before the checkpoint has its name. A checkpoint of which any file is damaged, or
whose name is of another step than the last of its records, is passed over.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aloll_cli.files import open_to_append, read_json_lines, remove_tree, sha256, sync, sync_folders
from aloll_cli.foreign import Unreadable, damaged, integer, list_of, number, parsed, record
from aloll_cli.store.journal import Journal
from aloll_cli.store.manifest import Sums, damage_of, files_of, listed_in, sums_of, write_manifest
from aloll_cli.training.checkpoints import folder_of, folders, keep_folders, write_folder
from aloll_cli.training.selection import STOPPED_EARLY, selected_step

if TYPE_CHECKING:
    from aloll_cli.runtime.terminal import Log

METRICS, EVALUATIONS = "metrics.jsonl", "evaluations.jsonl"
CANDIDATES, POLICY = "candidates", "policy"
RESULTS = (POLICY, "model")  # folders that the selected candidate becomes: of a policy, of a reward

STEP = record({"update": integer})  # of a training step
SCORED = record({"update": integer, "score": number})  # of an evaluation

LONGEST_RECORD = 1 << 20  # bytes

Write = Callable[[Path], object]  # writes files into a folder


@dataclass
class Progress:
    """The files of one run. The main process alone writes and removes them.

    Attributes:
        directory: of the build.
        keep: number of latest checkpoints to keep.
        select_best: whether the policy is the best checkpoint, or the last.
        log: where damage is said.
        result: the folder that the selected candidate becomes, one of RESULTS.
    """

    directory: Path
    keep: int
    select_best: bool
    log: Log
    result: str = POLICY
    _candidate: Sums = field(default_factory=dict)  # checksums of the candidate that is the best so far

    def record(self, name: str, record: dict[str, Any]) -> None:
        """Append to one of the records."""
        with open_to_append(self.directory / name) as stream:
            stream.write(json.dumps(record) + "\n")

    def records(self, name: str) -> list[dict[str, Any]]:
        """One of the records so far."""
        return read_json_lines(self.directory / name)

    def evaluations(self) -> list[dict[str, Any]]:
        """The records of all evaluations so far."""
        found = self.records(EVALUATIONS)
        with damaged(self.directory / EVALUATIONS):
            list_of(SCORED)(found, "the record")
        return found

    def checkpoint(self, step: int) -> Path:
        """The folder of a step's checkpoint."""
        return folder_of(self._checkpoints, step)

    def is_selected(self, step: int) -> bool:
        """Whether a step that was evaluated is the one to select so far."""
        return selected_step(self.evaluations(), self.select_best) == step

    def save_candidate(self, step: int, write: Write) -> None:
        """Save the policy of a step that is the one to select so far."""
        write_folder(self._candidates, step, partial(self._write_candidate, step, write))

    def save_checkpoint(self, step: int, write: Write) -> None:
        """Save the state of a step, and remove what resuming from it does not need."""
        write_folder(self._checkpoints, step, partial(self._write_checkpoint, write))
        self._prune()

    def last_whole(self) -> int:
        """The step of the last checkpoint that is whole, with all that belongs to it; 0 if there is none."""
        found = folders(self._checkpoints)
        for step in sorted(found, reverse=True):
            damage = damage_of_checkpoint(self.directory, found[step])
            if damage is None:
                return step
            self.log.warn(f"the checkpoint of step {step} is passed over: {damage}")
        if found:
            self.log.warn("no checkpoint is whole: training starts again")
        return 0

    def is_over(self, step: int, steps: int) -> bool:
        """Whether training ends after a step: the last of so many ``steps``, or one whose evaluation says that it stops early."""
        return step == steps or any(STOPPED_EARLY in record for record in self.evaluations()[-1:])

    def go_back_to(self, step: int, steps: int) -> None:
        """Remove what was written after a step of a run of so many ``steps``; everything for step 0."""
        beside = (listed_in(self.checkpoint(step), "beside") if step else None) or {}
        for name in (METRICS, EVALUATIONS):
            if name in beside:
                os.truncate(self.directory / name, beside.pop(name)[0])
            else:
                (self.directory / name).unlink(missing_ok=True)
        self._candidate = {name: {"bytes": size, "sha256": checksum} for name, (size, checksum) in beside.items()}
        if self._policy.exists() and not self.is_over(step, steps):
            remove_tree(self._policy)
        for root in (self._checkpoints, self._candidates):
            root.mkdir(exist_ok=True)
            keep_folders(root, {there for there in folders(root) if there <= step})

    def finish(self) -> None:
        """Rename the selected candidate to ``policy/``, or as the result is called; may be repeated after a kill."""
        if not self._policy.exists():
            self._prune()
            folders(self._candidates)[selected_step(self.evaluations(), self.select_best)].rename(self._policy)
        Journal(self.directory, 0).note({f"{self.result}/{_within(name)}": entry for name, entry in self._candidate.items()})
        remove_tree(self._candidates)

    def _write_candidate(self, step: int, write: Write, folder: Path) -> None:
        write(folder)
        self._candidate = {f"{CANDIDATES}/update-{step:07d}/{name}": entry for name, entry in sums_of(folder).items()}
        sync_folders(folder)

    def _write_checkpoint(self, write: Write, folder: Path) -> None:
        write(folder)
        beside: Sums = {}
        for file in (self.directory / METRICS, self.directory / EVALUATIONS):
            sync(file)
            beside[file.name] = {"bytes": file.stat().st_size, "sha256": sha256(file)}
        write_manifest(folder, beside=beside | self._candidate)

    def _prune(self) -> None:
        """Keep the last checkpoints, and the candidate for ``policy/`` that resuming from each of them needs."""
        kept = sorted(folders(self._checkpoints))[-self.keep :]
        keep_folders(self._checkpoints, set(kept))
        past = [[record for record in self.evaluations() if record["update"] <= step] for step in kept]
        keep_folders(self._candidates, {selected_step(records, self.select_best) for records in past})

    @property
    def _checkpoints(self) -> Path:
        return self.directory / "checkpoints"

    @property
    def _candidates(self) -> Path:
        return self.directory / CANDIDATES

    @property
    def _policy(self) -> Path:
        return self.directory / self.result


def damage_of_checkpoint(directory: Path, checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint of a run, or with what it needs beside it in the run's directory; None if it is whole."""
    if damage := damage_of(checkpoint, trusting=False):
        return damage.what
    policy = next((directory / name for name in RESULTS if (directory / name).exists()), directory / POLICY)
    beside = listed_in(checkpoint, "beside")
    if beside is None:
        return "its manifest.json cannot be read"
    candidate = {name: entry for name, entry in beside.items() if name.startswith(f"{CANDIDATES}/") and name.count("/") > 1}
    folder = directory / ("/".join(next(iter(candidate)).split("/")[:2]) if candidate else policy.name)
    if policy.exists():  # the candidate was selected in the end
        folder = policy
    for name, (size, checksum) in beside.items():
        file = folder / _within(name) if name in candidate else directory / name
        if file.is_symlink() or not file.is_file():
            return f"{file.relative_to(directory)} is missing"
        length = None if name in candidate else size  # what was appended to a record later does not belong to it
        if file.stat().st_size < size or sha256(file, length) != checksum:
            return f"{file.relative_to(directory)} was changed (its checksum differs)"
    step = _last_step(directory / METRICS, beside[METRICS][0]) if METRICS in beside else None
    if step is None:
        return f"{METRICS} does not say of which step it is"
    if checkpoint != folder_of(checkpoint.parent, step):
        return f"it is of step {step}"
    there = [str(file.relative_to(folder)) for file in files_of(folder)] if folder.exists() else []
    stray = next((name for name in there if name not in map(_within, candidate)), None)
    return None if stray is None else f"{folder.name}/{stray} was not written by training"


def _last_step(metrics: Path, size: int) -> int | None:
    """The step of the last record in the first ``size`` bytes of a run's metrics; None if there is none."""
    with metrics.open("rb") as stream:
        stream.seek(max(0, size - LONGEST_RECORD))
        lines = stream.read(size - stream.tell()).splitlines()
    try:
        found = parsed(lines[-1] if lines else b"")
        STEP(found, "the record")
    except Unreadable:
        return None
    return int(found["update"])


def _within(name: str) -> str:
    """The path of a candidate's file in its folder: without ``candidates/update-…/``."""
    return name.split("/", 2)[2]
