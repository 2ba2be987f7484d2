"""The raw rows of a task as prompts and responses, before selection, truncation and filters."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property
from itertools import combinations, islice
from typing import TYPE_CHECKING, Any

from aloll_cli.errors import NoStoredReward, UserError
from aloll_cli.files import write_json
from aloll_cli.schema import identity, name_of
from aloll_cli.store.store import Artifact, Job
from aloll_cli.store.tables import Rows, read_file
from aloll_cli.tasks.base import LEAVE_OUT, SPLITS, BadRow, Dropped, Record, Task, plain_prompt, shown
from aloll_cli.tasks.options import OnBadRow
from aloll_cli.tasks.source import Source
from aloll_cli.user_code import MEND, of_plugin

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

CHUNK = 10_000  # responses held as Python objects at a time
MALFORMED = (BadRow, LookupError, TypeError, ValueError, AttributeError)  # what a row that lacks something makes a task raise


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
        return {"task": identity(self.task, "rows"), "content": self.source.content()}

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

    def reading(self) -> list[str]:
        """How the task reads the rows, as far as the first one tells, and which files are not read."""
        _, row = next(iter(self.source.rows(self._origins[0])), ("", None))
        lines = self.source.describe()
        with suppress(BadRow, Dropped):
            return lines if row is None else [*lines, *self.task.describe(row)]
        return lines

    def make(self, job: Job) -> None:
        """Write ``<split>.parquet`` and counts.json. Raises UserError for a prompt in two splits and for an empty split."""
        job.world.on_main(lambda: self._write_all(job))

    def _write_all(self, job: Job) -> None:
        for line in self.reading():
            job.log.say(f"  {line}")
        counts: dict[str, Counter[str]] = {name: Counter() for name in (*self._origins, *SPLITS)}
        with ExitStack() as stack:
            writers = {split: stack.enter_context(_Writer(job.directory, split)) for split in SPLITS}
            for origin in self._origins:
                self._write(origin, writers, counts)
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

    def _write(self, origin: str, writers: dict[str, _Writer], counts: dict[str, Counter[str]]) -> None:
        for number, (place, row) in enumerate(self.source.rows(origin)):
            counts[origin]["rows"] += 1
            try:
                records = self._records(row, place)
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

    def _records(self, row: dict[str, Any], place: str) -> list[Record]:
        """The records of a row. Raises UserError if the task returned anything else."""
        returned = self.task.records(row)
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

    def _separate_splits(self, writers: dict[str, _Writer], counts: dict[str, Counter[str]]) -> None:
        """Remove prompts that two splits share from the later one. Raises UserError unless bad rows are skipped."""
        import numpy as np

        for first, second in combinations(SPLITS, 2):
            shared = np.intersect1d(writers[first].groups, writers[second].groups)
            if len(shared) and self.task.on_bad_row is OnBadRow.error:
                row, prompt = writers[second].find(int(shared[0]))
                raise UserError(
                    f"{self.source.place(second)}, row {row}: "
                    f'the prompt "{" ".join(prompt.split())[-60:]}" is in {first} and in {second}.',
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


def _refusal(error: Exception, place: str) -> UserError | None:
    """The error to show for a row that a task could not read; None for a mistake of ours."""
    if isinstance(error, BadRow):
        return UserError(f"{place}: {error}.", error.hint)
    hint = f"{LEAVE_OUT} A task says what it expects by raising BadRow." if isinstance(error, MALFORMED) else MEND
    return of_plugin(error, place, hint)


class _Writer:
    """Writes the responses of one split in chunks."""

    def __init__(self, directory: Path, split: str) -> None:
        self._file, self._temporary = directory / f"{split}.parquet", directory / f".{split}.parquet.tmp"
        self._chunk: list[dict[str, Any]] = []
        self._groups = array("Q")  # ids of the prompts as integers, so that millions of rows fit in memory

    def __enter__(self) -> _Writer:
        import pyarrow.parquet as pq

        self._writer = pq.ParquetWriter(self._temporary, _schema(), compression="zstd")
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._flush()
        self._writer.close()
        if kind is None:
            self._temporary.rename(self._file)

    def add(self, name: str, record: Record) -> None:
        self._groups.append(int(record.group, 16))
        self._chunk.append(_as_row(name, record))
        if len(self._chunk) == CHUNK:
            self._flush()

    def _flush(self) -> None:
        self._writer.write_table(_table(self._chunk))
        self._chunk.clear()

    @property
    def groups(self) -> npt.NDArray[np.uint64]:
        """(N,) ids of the prompts."""
        import numpy as np

        return np.frombuffer(self._groups, dtype=np.uint64) if self._groups else np.array([], dtype=np.uint64)

    def leave_out(self, groups: npt.NDArray[np.uint64]) -> int:
        """Rewrite the file without the responses to these prompts; returns how many were left out."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.parquet as pq

        kept = ~np.isin(self.groups, groups, kind="sort")
        start = 0
        with pq.ParquetWriter(self._temporary, _schema(), compression="zstd") as writer:
            for batch in Rows([self._file]).batches():
                writer.write_table(batch.filter(pa.array(kept[start : start + batch.num_rows])))
                start += batch.num_rows
        self._temporary.rename(self._file)
        self._groups = array("Q", self.groups[kept].tobytes())
        return int((~kept).sum())

    def find(self, group: int) -> tuple[int, str]:
        """The number of a prompt's first row in its source, counted from 1, and the prompt's text."""
        import pyarrow.parquet as pq

        (row, *_) = pq.read_table(self._file, filters=[("group", "=", f"{group:016x}")]).to_pylist()
        return int(row["id"].split("-")[1]) + 1, plain_prompt(row["parts"])


def load_data(directory: Path, split: str, columns: list[str] | None = None) -> pa.Table:
    """The raw responses of a split: columns id, group, position, parts, response, stored, subset; or some of them."""
    return read_file(directory / f"{split}.parquet", columns or _schema().names)


def open_data(directory: Path, split: str, columns: list[str] | None = None) -> Rows:
    """The same for large tables: only a few row groups are in memory at a time."""
    return Rows([directory / f"{split}.parquet"], columns or _schema().names)


def _as_row(name: str, record: Record) -> dict[str, Any]:
    parts = [vars(part) for part in record.parts]
    return {
        "id": name, "group": record.group, "position": record.position, "parts": parts,
        "response": record.response, "stored": record.reward, "subset": record.subset,
    }  # fmt: skip


def _schema() -> pa.Schema:
    import pyarrow as pa

    part = pa.struct([
        ("text", pa.string()), ("role", pa.string()), ("drop", pa.int64()), ("whole", pa.bool_()), ("eos", pa.bool_()),
        ("prefix", pa.string()), ("source", pa.bool_()),
    ])  # fmt: skip
    return pa.schema([
        ("id", pa.string()), ("group", pa.string()), ("position", pa.int64()), ("parts", pa.list_(part)),
        ("response", pa.string()), ("stored", pa.float64()), ("subset", pa.string()),
    ])  # fmt: skip


def _table(rows: list[dict[str, Any]]) -> pa.Table:
    import pyarrow as pa

    return pa.Table.from_pylist(rows, schema=_schema())
