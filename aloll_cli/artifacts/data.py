"""The raw rows of a task as prompts and responses, before any choice, cut or filter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

from aloll_cli.artifacts.base import Artifact, Job
from aloll_cli.config import identity
from aloll_cli.errors import UserError
from aloll_cli.files import write_json
from aloll_cli.tasks.base import SPLITS, BadRow, Dropped, OnBadRow, Record, Task
from aloll_cli.tasks.source import Source

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

CHUNK = 10_000  # responses held as Python objects at a time


class Data(Artifact):
    """Every response of every split, keyed on the rows' content and not on their path."""

    kind, stage = "data", "score-rewards"
    version = 4
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

    def make(self, job: Job) -> None:
        """Write ``<split>.parquet`` and counts.json; refuse prompts that two splits share, and splits without a response."""
        job.world.on_main(lambda: self._write_all(job))

    def _write_all(self, job: Job) -> None:
        split_of: dict[str, str] = {}
        counts: dict[str, dict[str, int]] = {}
        for split in SPLITS:
            counter = Counter[str]()
            self._write(split, job, counter, split_of)
            counts[split] = dict(counter)
            shown = ", ".join(f"{count} {what}" for what, count in counter.items()) or "nothing"
            job.log.say(f"  {split}: {shown}")
            if not counter["responses"]:
                hint = f"Found: {shown}. " if counter else ""
                if split not in self.source.splits():
                    hint += "Prompts are drawn for it by their hash, 5 %: name a folder with a file for each split, or more rows."
                else:
                    hint += "Put rows into that file."
                raise UserError(f"{self.source.place(split)}: the {split} split has no responses.", hint)
        write_json(job.directory / "counts.json", counts)

    def _write(self, split: str, job: Job, counter: Counter[str], split_of: dict[str, str]) -> None:
        import pyarrow.parquet as pq

        beside = job.directory / f".{split}.parquet.tmp"
        with pq.ParquetWriter(beside, _schema(), compression="zstd") as writer:
            chunk: list[dict[str, Any]] = []
            for number, record in self._records(split, counter):
                if not record.response.strip():
                    counter["empty responses left out"] += 1
                    continue
                first = split_of.setdefault(record.group, split)
                if first != split and self.task.on_bad_row is OnBadRow.skip:
                    counter[f"responses left out (their prompt is in {first}, too)"] += 1
                    continue
                if first != split:
                    raise UserError(
                        f'the prompt "{" ".join(record.prompt.split())[-60:]}" is in {first} and in {split}.',
                        "Splits must not share a prompt: remove it from one of the files, or leave it out of the later split "
                        "with task.on_bad_row=skip.",
                    )
                counter["responses"] += 1
                chunk.append(_as_row(f"{split}-{number}-{record.position}", record))
                if len(chunk) == CHUNK:
                    writer.write_table(_table(chunk))
                    chunk.clear()
            writer.write_table(_table(chunk))
        beside.rename(job.directory / f"{split}.parquet")

    def _records(self, split: str, counter: Counter[str]) -> Iterator[tuple[int, Record]]:
        for number, (place, row) in enumerate(self._rows(split)):
            try:
                records = self.task.records(row)
            except Dropped as reason:
                counter[f"rows left out ({reason})"] += 1
                continue
            except BadRow as error:
                if self.task.on_bad_row is OnBadRow.error:
                    hint = "Leave such rows out with task.on_bad_row=skip, or correct the file."
                    raise UserError(f"{place}: {error}.", hint) from None
                counter["bad rows skipped"] += 1
                continue
            for record in records:
                if self._belongs(record, split):
                    yield number, record

    def _rows(self, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """The rows a split may come from: its own, or those that are split by prompt."""
        own = self.source.splits()
        yield from self.source.rows(split if split in own else "all" if "all" in own else "train")

    def _belongs(self, record: Record, split: str) -> bool:
        """Whether a record of those rows is the split's: by its own word or its prompt's hash where the source lacks a split."""
        missing = [s for s in SPLITS if s not in self.source.splits()]
        if missing and record.split is not None:
            return record.split == split
        drawn = self.task.split_of(record.prompt)
        return drawn == split if split in missing else split != "train" or drawn not in missing


def load_data(directory: Path, split: str) -> pa.Table:
    """The raw responses of a split: id, group, position, parts, response, stored, subset."""
    import pyarrow.parquet as pq

    return pq.read_table(directory / f"{split}.parquet")


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
