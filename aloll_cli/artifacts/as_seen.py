"""Which prompts and responses are the same as the model sees them, after they were cut, or but for their form: as hashes."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aloll_cli.keys import Keys, count_in, numbered, parts
from aloll_cli.store.tables import open_blocks
from aloll_cli.tasks.base import SPLITS
from aloll_cli.text.examples import prompt_keys

if TYPE_CHECKING:
    import pyarrow as pa

    from aloll_cli.arrays import Float32Array, IntArray


def hashes(tokens: pa.ListArray) -> Keys:
    """(N,) a hash of each row's token ids."""
    ids, offsets = tokens.values.to_numpy(), tokens.offsets.to_numpy()
    rows = zip(offsets[:-1], offsets[1:], strict=True)
    digests = b"".join(hashlib.blake2b(ids[start:stop].tobytes(), digest_size=8).digest() for start, stop in rows)
    return np.frombuffer(digests, dtype=np.uint64)


def column_hashes(folder: Path, name: str) -> Keys:
    """The hashes of a column of token ids of a split's examples; a few row groups are in memory at a time."""
    batches = open_blocks(folder, [name]).batches()
    return np.concatenate([hashes(batch.column(name).combine_chunks()) for batch in batches])


def prompt_hashes(folder: Path) -> Keys:
    """(G,) the hash of each unique prompt of a split's examples; prompts that only the cut makes the same are apart."""
    return column_hashes(folder, "prompt_ids")[numbered(prompt_keys(folder))[1]]


def form_hashes(folder: Path) -> Keys:
    """(G,) the hash of each unique prompt of a split's examples without its form: white space, and Unicode's NFKC.

    Runs of white space count as one space, and as none at the ends.
    """
    batches = open_blocks(folder, ["prompt"]).batches()
    texts = (map(_without_form, batch.column("prompt").to_pylist()) for batch in batches)
    return np.concatenate([text_hashes(some) for some in texts])[numbered(prompt_keys(folder))[1]]


def _without_form(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).split())


def text_hashes(texts: Iterable[str]) -> Keys:
    """(N,) a hash of each text."""
    digests = b"".join(hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts)
    return np.frombuffer(digests, dtype=np.uint64)


def shared_prompts(examples: Path, hashed: Callable[[Path], Keys] = prompt_hashes) -> dict[str, dict[str, int]]:
    """How many of a split's prompts an earlier split has, too: by later split, then by earlier one.

    Args:
        examples: folder of the encoded examples.
        hashed: which prompts are the same; by default, those that are so as the model sees them.
    """
    found = {split: hashed(examples / split) for split in SPLITS}
    shared: dict[str, dict[str, int]] = {split: {} for split in SPLITS[1:]}
    for earlier, later in combinations(SPLITS, 2):
        shared[later][earlier] = count_in(found[later], found[earlier])
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


def count_pairs(groups: IntArray, rewards: Float32Array, responses: Keys) -> Pairs:
    """Count the pairs of N responses: (N,) number of the prompt, (N,) rewards, (N,) hashes of the token ids."""
    different, same = 0, 0
    for (rows,) in parts(groups.astype(np.uint64)):
        alike = _alike(groups[rows])
        alike_in_reward = _alike(groups[rows], rewards[rows])
        alike_in_text = _alike(groups[rows], responses[rows])
        alike_in_both = _alike(groups[rows], rewards[rows], responses[rows])
        same += alike_in_text - alike_in_both
        different += alike - alike_in_reward - alike_in_text + alike_in_both
    return Pairs(different, same)


def _alike(*keys: Any) -> int:
    """The number of pairs of rows that agree in all keys."""
    order = np.lexsort(keys)
    changes = np.any([key[order[1:]] != key[order[:-1]] for key in keys], axis=0)
    counts = np.diff(np.flatnonzero(np.concatenate([[True], changes, [True]])))
    return int((counts * (counts - 1) // 2).sum())
