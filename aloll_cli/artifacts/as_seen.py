"""Prompts and responses as the model sees them, after they were cut: which are the same, as hashes of their token ids."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from aloll_cli.store.tables import Rows, open_blocks
from aloll_cli.tasks.base import SPLITS

if TYPE_CHECKING:
    import pyarrow as pa

    from aloll_cli.arrays import Float32Array, IntArray

Hashes = npt.NDArray[np.uint64]


def hashes(tokens: pa.ListArray) -> Hashes:
    """(N,) a hash of each row's token ids."""
    ids, offsets = tokens.values.to_numpy(), tokens.offsets.to_numpy()
    rows = zip(offsets[:-1], offsets[1:], strict=True)
    digests = b"".join(hashlib.blake2b(ids[start:stop].tobytes(), digest_size=8).digest() for start, stop in rows)
    return np.frombuffer(digests, dtype=np.uint64)


def column_hashes(folder: Path, name: str) -> Hashes:
    """The hashes of a column of token ids of a split's examples; a few row groups are in memory at a time."""
    rows = open_blocks(folder, [name])
    assert isinstance(rows, Rows)
    return np.concatenate([hashes(batch.column(name).combine_chunks()) for batch in rows.batches()])


def prompt_hashes(folder: Path) -> Hashes:
    """(G,) the hash of each unique prompt of a split's examples; prompts that only the cut makes the same are apart."""
    rows = open_blocks(folder, ["group"])
    assert isinstance(rows, Rows)
    groups = [group for batch in rows.batches() for group in batch.column("group").to_pylist()]
    first = np.unique(np.array(groups), return_index=True)[1]
    return column_hashes(folder, "prompt_ids")[first]


def shared_prompts(examples: Path) -> dict[str, dict[str, int]]:
    """How many of a split's prompts an earlier split has, too, as the model sees them: by later split, then by earlier one."""
    found = {split: prompt_hashes(examples / split) for split in SPLITS}
    shared: dict[str, dict[str, int]] = {split: {} for split in SPLITS[1:]}
    for earlier, later in combinations(SPLITS, 2):
        shared[later][earlier] = int(np.isin(found[later], found[earlier], kind="sort").sum())
    return shared


def shared_told(shared: dict[str, dict[str, int]]) -> str:
    """The figures of ``shared_prompts`` that are not 0, as text: ``3 of test in train``."""
    return ", ".join(
        f"{count:,} of {later} in {earlier}" for later, of in shared.items() for earlier, count in of.items() if count
    )


@dataclass(frozen=True)
class Pairs:
    """Pairs of logged responses to a prompt that differ in their rewards.

    Attributes:
        different: number of pairs that the model can tell apart.
        same: number of pairs of the same token ids, which are no preference.
    """

    different: int
    same: int

    @property
    def told(self) -> str:
        """Both figures as text."""
        total = f"pairs of responses with different rewards: {self.different + self.same:,}"
        return total + (f", less {self.same:,} whose two responses the model sees as the same" if self.same else "")


def count_pairs(groups: IntArray, rewards: Float32Array, responses: Hashes) -> Pairs:
    """Count the pairs of N responses: (N,) index of the prompt, (N,) rewards, (N,) hashes of the token ids."""
    codes = np.unique(responses, return_inverse=True)[1]
    values = np.unique(rewards, return_inverse=True)[1]

    def within(*keys: Any) -> int:
        """The number of pairs that agree in all keys."""
        counts = np.unique(np.stack([groups, *keys]), axis=1, return_counts=True)[1]
        return int((counts * (counts - 1) // 2).sum())

    unequal = within() - within(values)
    same = within(codes) - within(codes, values)
    return Pairs(unequal - same, same)
