"""The raw responses that a task selects of a split, with its noise."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from aloll_cli.artifacts.raw_table import CHUNK, open_data
from aloll_cli.store.store import Job
from aloll_cli.tasks.base import Task
from aloll_cli.tasks.options import Responses, Unrated
from aloll_cli.tasks.selection import chosen_rows, limited, noise_sources, of_subsets, rated, within
from aloll_cli.text.examples import keys_of

if TYPE_CHECKING:
    import pyarrow as pa

    from aloll_cli.arrays import IntArray


def selected_rows(directory: Path, split: str, task: Task) -> IntArray:
    """Indices of the raw responses that the task selects, in order: by subset, reward, task.responses, limit.

    Only the columns that the choice reads are in memory, prompts by their keys.
    """
    import numpy as np

    bounded = split == "train" and (task.min_reward is not None or task.max_reward is not None)
    only_rated = task.unrated is Unrated.drop
    ranked = task.responses in (Responses.best, Responses.worst)
    most = task.limit if split == "train" else task.limit_eval
    read = {
        "subset": task.subsets is not None, "stored": only_rated or bounded or ranked,
        "position": task.responses is Responses.first, "group": ranked or most is not None,
    }  # fmt: skip
    kept = np.arange(open_data(directory, split).num_rows)
    if not any(read.values()):
        return kept
    table = columns_of_rows(directory, split, [name for name, is_read in read.items() if is_read])
    if task.subsets is not None:
        kept = kept[of_subsets(table, task.subsets)]
    if only_rated:
        kept = kept[rated(table.take(kept), split)]
    if bounded:
        kept = kept[within(table.take(kept), task.min_reward, task.max_reward)]
    kept = kept[chosen_rows(table.take(kept), task.responses)]
    return kept if most is None else kept[limited(table.column("group").take(kept).to_numpy(), most)]


def columns_of_rows(directory: Path, split: str, names: list[str]) -> pa.Table:
    """Some columns of a split's raw rows: of group, with the prompts' keys as numbers, position, stored and subset."""
    import pyarrow as pa

    def short(name: str, batch: pa.Table) -> Any:
        if name == "group":
            return pa.array(keys_of(batch, directory))
        return batch.column(name).dictionary_encode() if name == "subset" else batch.column(name)

    batches = open_data(directory, split, names).batches()
    tables = [pa.table({name: short(name, batch) for name in names}) for batch in batches]
    return pa.concat_tables(tables).unify_dictionaries()


class SelectedResponses:
    """The selected responses of a split, with noise: in memory are their row numbers and the texts of the noise."""

    def __init__(self, directory: Path, split: str, task: Task, job: Job) -> None:
        """Select from the data in a directory, and log the counts."""
        import numpy as np

        self._raw = open_data(directory, split)
        self._rows = selected_rows(directory, split, task)
        self._noise = np.zeros(len(self._rows), dtype=bool)
        if len(self) < self._raw.num_rows:
            job.log.say(f"  {split}: {len(self):,} of {self._raw.num_rows:,} responses selected")
        if split == "train" and task.noise:
            sources = self._noise_sources(directory, split, task)
            self._noise = sources != np.arange(len(self))
            self._foreign = _texts(directory, split, self._rows[sources[self._noise]])
            job.log.say(
                f"  train: {self._noise.sum():,} of {len(self):,} responses replaced by responses to other prompts (task.noise)"
            )

    def __len__(self) -> int:
        return len(self._rows)

    def _noise_sources(self, directory: Path, split: str, task: Task) -> IntArray:
        """(N,) the selected response that stands in the place of each."""
        from aloll_cli.keys import numbered

        raw = open_data(directory, split, ["id"])
        parts = (self._rows[start : start + CHUNK] for start in range(0, len(self), CHUNK))
        ids = (name for part in parts for name in raw.take(part).column("id").to_pylist())
        groups = columns_of_rows(directory, split, ["group"]).column("group").take(self._rows).to_numpy()
        return noise_sources(ids, numbered(groups)[0], task.noise, task.noise_seed)

    def slice(self, start: int, stop: int) -> pa.Table:
        """Raw responses and whether they are noise; noise has no stored reward."""
        import pyarrow as pa
        import pyarrow.compute as pc

        raw, noise = self._raw.take(self._rows[start:stop]), pa.array(self._noise[start:stop])
        if replaced := int(self._noise[start:stop].sum()):
            foreign = self._foreign.slice(int(self._noise[:start].sum()), replaced).combine_chunks()
            changed = {
                "response": pc.replace_with_mask(raw.column("response").combine_chunks(), noise, foreign),
                "stored": pc.if_else(noise, None, raw.column("stored")),
            }
            for name, column in changed.items():
                raw = raw.set_column(raw.schema.get_field_index(name), name, column)
        return raw.append_column("noise", noise)


def _texts(directory: Path, split: str, rows: IntArray) -> pa.ChunkedArray:
    """Texts of raw responses by row, in any order."""
    import numpy as np

    distinct, places = np.unique(rows, return_inverse=True)
    return open_data(directory, split, ["response"]).take(distinct).column("response").take(places)
