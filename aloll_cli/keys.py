"""Sets of 64-bit keys, such as those of prompts: found out part by part, so that sorting takes little memory beyond the keys."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from aloll_cli.arrays import IntArray

Keys = npt.NDArray[np.uint64]

PART = 1 << 20  # keys that are sorted at a time, about
DIGITS = 16  # hexadecimal digits of a key's name
HEXADECIMAL = frozenset("0123456789abcdef")


def of_names(names: list[str]) -> Keys:
    """(N,) keys from their names of 16 hexadecimal digits. Raises ValueError for other names."""
    digits = "".join(names)
    if any(len(name) != DIGITS for name in names) or not set(digits) <= HEXADECIMAL:
        raise ValueError(f"a key has {DIGITS} hexadecimal digits")
    return np.frombuffer(bytes.fromhex(digits), dtype=">u8").astype(np.uint64)


def name_of_key(key: int) -> str:
    """The inverse of :func:`of_names` for one key."""
    return f"{key:0{DIGITS}x}"


def parts(*arrays: Keys) -> Iterator[list[IntArray]]:
    """Row numbers of each array, ascending, of a part of the keys at a time: all that are equal are in one part."""
    count = 1 << max(0, (max(map(len, arrays)) - 1) // PART).bit_length()
    of = [(keys & np.uint64(count - 1)).astype(np.uint16 if count <= 1 << 16 else np.uint64) for keys in arrays]
    for part in range(count):
        yield [np.flatnonzero(mine == part) for mine in of]


def distinct(keys: Keys) -> int:
    """How many of (N,) keys there are, equal ones counted once."""
    return sum(len(np.unique(keys[rows])) for (rows,) in parts(keys))


def shared(first: Keys, second: Keys) -> Keys:
    """The keys that are in both, each once, ascending."""
    found = [np.intersect1d(first[mine], second[theirs]) for mine, theirs in parts(first, second)]
    return np.sort(np.concatenate(found))


def count_in(keys: Keys, others: Keys) -> int:
    """How many of (N,) keys are among others, equal ones counted as often as they are there."""
    return sum(int(np.isin(keys[mine], others[theirs], kind="sort").sum()) for mine, theirs in parts(keys, others))


def numbered(keys: Keys) -> tuple[IntArray, IntArray]:
    """(N,) the number of each key among the distinct ones, and (G,) the first row of each of these; in order of appearance."""
    first = np.empty(len(keys), dtype=np.int64)  # the first row with the same key
    for (rows,) in parts(keys):
        _, where, place = np.unique(keys[rows], return_index=True, return_inverse=True)
        first[rows] = rows[where[place]]
    firsts = np.flatnonzero(first == np.arange(len(keys)))
    number = np.empty(len(keys), dtype=np.int64)
    number[firsts] = np.arange(len(firsts))
    return number[first], firsts
