"""The raw rows of a task as prompts and responses, before selection, truncation and filters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property, partial
from itertools import combinations, islice
from pathlib import Path
from typing import Any

from aloll_cli.artifacts.raw_table import SplitWriter
from aloll_cli.errors import NoStoredReward, UserError
from aloll_cli.files import write_json
from aloll_cli.foreign import checked_json, list_of, text
from aloll_cli.schema import identity, name_of
from aloll_cli.store.outside import unchanged
from aloll_cli.store.store import Artifact, Job
from aloll_cli.tasks.base import LEAVE_OUT, SPLITS, BadRow, Dropped, Record, Task, shown
from aloll_cli.tasks.options import OnBadRow
from aloll_cli.tasks.reading import Reading
from aloll_cli.tasks.source import Source
from aloll_cli.user_code import MEND, of_plugin

MALFORMED = (BadRow, LookupError, TypeError, ValueError, AttributeError)  # what a row that lacks something makes a task raise
TOLD = "reading.json"  # lines on how the rows were read


class Data(Artifact):
    """All responses of all splits; its fingerprint depends on the content of the rows, not on their path."""

    kind, stage = "data", "score-rewards"
    version = 5  # counts.json holds the number of rows read; a shared prompt may be left out of the later split
    resumes = False

    def __init__(self, task: Task) -> None:
        self.task = task
        self.name = "rows"

    @cached_property
    def source(self) -> Source:
        return self.task.source()

    def identity(self) -> dict[str, Any]:
        return {"task": identity(self.task, "rows"), "content": self.content}

    @cached_property
    def content(self) -> dict[str, str]:
        """The content of the source in the recipe."""
        return self.source.content()

    def inputs(self) -> dict[str, Artifact]:
        return {}

    @contextmanager
    def naming_columns(self) -> Iterator[None]:
        """Where a stored reward is missing, say which columns the rows have."""
        try:
            yield
        except NoStoredReward as error:
            _, row = next(iter(self.source.rows(self._origins[0])))
            what, hint = error.args
            raise UserError(what, f"{hint}\nColumns of the data: {', '.join(map(str, row))}.") from None

    def place(self, name: str) -> str:
        """Where the row of a response is in the source: the file and line, for example.

        Args:
            name: the response's id.
        """
        split, number, _ = name.split("-")
        origin = split if split in self._origins else self._origins[0]
        places = (place for place, _ in self.source.rows(origin))
        return next(islice(places, int(number), None))

    def reading(self, directory: Path | None = None) -> list[str]:
        """How the task reads the rows, and which files are not read.

        Args:
            directory: the folder of this artifact; None: as far as the first row tells.
        """
        _, row = next(iter(self.source.rows(self._origins[0])), ("", None))
        lines = self.source.describe() + ([] if directory is None else _read_told(directory))
        with suppress(BadRow, Dropped):
            return lines if row is None else [*lines, *self.task.describe(row)]
        return lines

    def make(self, job: Job) -> None:
        """Write ``<split>.parquet`` and counts.json.

        Raises:
            UserError: a prompt is in two splits, a split is empty, or a file was changed since the recipe was made.
        """
        job.world.on_main(lambda: self._write_unchanged(job))

    def _write_unchanged(self, job: Job) -> None:
        with ExitStack() as stack:
            for part, known in self.content.items():  # of a split, or of a revision that all splits have
                place = self.source.place(part if part in self.source.splits() else self._origins[0])
                stack.enter_context(unchanged(place, known, partial(self._content_now, part)))
            self._write_all(job)

    def _content_now(self, part: str) -> str | None:
        return self.source.content().get(part)

    def _write_all(self, job: Job) -> None:
        for line in self.reading():
            job.log.say(f"  {line}")
        reading = self.task.reading()
        counts: dict[str, Counter[str]] = {name: Counter() for name in (*self._origins, *SPLITS)}
        with ExitStack() as stack:
            writers = {split: stack.enter_context(SplitWriter(job.directory, split)) for split in SPLITS}
            for origin in self._origins:
                self._write(origin, reading, writers, counts)
        self._tell(job, reading)
        self._separate_splits(writers, counts)
        for name, counter in counts.items():
            shown = ", ".join(f"{count:,} {what}" for what, count in counter.items()) or "nothing"
            job.log.say(f"  {name}: {shown}")
        for split in SPLITS:
            if not counts[split]["responses"]:
                raise self._nothing(split, counts)
        write_json(job.directory / "counts.json", counts)

    @cached_property
    def _origins(self) -> list[str]:
        """The splits of the source that are read: train, validation and test if it has them, or its only one."""
        own = self.source.splits()
        if not {"train", "all"} & set(own):
            raise UserError(
                f"{self.source.place('train')}: there is no such split; there are: {', '.join(own)}.", "Choose another data set."
            )
        return ["all"] if "all" in own else [split for split in SPLITS if split in own]

    def _tell(self, job: Job, reading: Reading) -> None:
        """Say how the rows were read, and keep it for ``inspect``. Raises UserError where the rows contradict themselves."""
        warnings, told = reading.warnings(self.source.place), reading.told()
        for line in told:
            job.log.say(f"  {line}")
        for warning in warnings:
            job.log.warn(warning)
        if told:
            write_json(job.directory / TOLD, told)

    def _write(self, origin: str, reading: Reading, writers: dict[str, SplitWriter], counts: dict[str, Counter[str]]) -> None:
        for number, (place, row) in enumerate(self.source.rows(origin)):
            counts[origin]["rows"] += 1
            try:
                records = self._records(reading, row, origin, place)
            except Dropped as reason:
                counts[origin][f"rows left out ({reason})"] += 1
                continue
            except Exception as error:  # a plugin's task may raise anything
                refusal = _refusal(error, place)
                if refusal is None:
                    raise
                if self.task.on_bad_row is OnBadRow.error or not isinstance(error, MALFORMED):
                    raise refusal from None
                counts[origin]["bad rows skipped"] += 1
                continue
            for record in records:
                split = self._split(record, origin)
                if record.response.strip():
                    writers[split].add(f"{split}-{number}-{record.position}", record)
                    counts[split]["responses"] += 1
                else:
                    counts[split]["empty responses left out"] += 1

    def _records(self, reading: Reading, row: dict[str, Any], origin: str, place: str) -> list[Record]:
        """The records of a row. Raises UserError if the task returned anything else."""
        returned = reading.records(row, origin)
        found = list(returned) if isinstance(returned, Iterable) else [returned]
        if not isinstance(returned, Iterable) or not all(isinstance(record, Record) for record in found):
            wrong = shown(found if isinstance(returned, Iterable) else returned)
            what = f"{place}: records of task={name_of(self.task)} returned {wrong}."
            raise UserError(what, "Expected a list of Record; for a row without any, raise Dropped with the reason.")
        return found

    def _split(self, record: Record, origin: str) -> str:
        """The split of a record: the source's; if the source has only one, the record's own, or by its prompt's hash."""
        if origin not in ("train", "all"):
            return origin
        if record.split is not None and len(self._origins) == 1:
            return record.split
        drawn = self.task.split_of(record.prompt)
        return "train" if drawn in self._origins else drawn

    def _separate_splits(self, writers: dict[str, SplitWriter], counts: dict[str, Counter[str]]) -> None:
        """Remove prompts that two splits share from the later one. Raises UserError unless bad rows are skipped."""
        from aloll_cli.keys import shared as keys_in_both

        for first, second in combinations(SPLITS, 2):
            shared = keys_in_both(writers[first].groups, writers[second].groups)
            if len(shared) and self.task.on_bad_row is OnBadRow.error:
                row, prompt = writers[second].find(int(shared[0]))
                more = f", and so are {len(shared) - 1:,} more" if len(shared) > 1 else ""
                raise UserError(
                    f"{self.source.place(second)}, row {row}: "
                    f'the prompt "{" ".join(prompt.split())[-60:]}" is in {first} and in {second}{more}.',
                    "Splits must not share a prompt: remove it from one of them, or set task.on_bad_row=skip to leave it out "
                    "of the later split.",
                )
            if len(shared):
                left_out = writers[second].leave_out(shared)
                counts[second]["responses"] -= left_out
                counts[second][f"responses left out (their prompt is in {first}, too)"] += left_out

    def _nothing(self, split: str, counts: dict[str, Counter[str]]) -> UserError:
        read = [split] if split in self._origins else self._origins
        lost = sum((counts[name] for name in dict.fromkeys([*read, split])), Counter[str]())
        rows = lost.pop("rows", 0)
        del lost["responses"]
        found = ", ".join(f"{count} {what}" for what, count in lost.items())
        hint = f"Found: {found}. " if found else ""
        if not rows:
            hint += "The file has no rows: add some."
        elif lost["bad rows skipped"] == rows:
            hint += "Set task.on_bad_row=error to see what is wrong with the first of them."
        elif split in self._origins:
            hint += "Add rows to that file."
        else:
            hint += self.task.how_to_fill(split)
        return UserError(f"{self.source.place(split)}: the {split} split has no responses.", hint)


def _read_told(directory: Path) -> list[str]:
    """How all rows were read; empty where nothing was to be said of them."""
    file = directory / TOLD
    lines: list[str] = checked_json(file, list_of(text)) if file.exists() else []
    return lines


def _refusal(error: Exception, place: str) -> UserError | None:
    """The error to show for a row that a task could not read; None for a mistake of ours."""
    if isinstance(error, BadRow):
        return UserError(f"{place}: {error}.", error.hint)
    hint = f"{LEAVE_OUT} A task says what it expects by raising BadRow." if isinstance(error, MALFORMED) else MEND
    return of_plugin(error, place, hint)
