"""Make rows of made-up words: any number of them, without holding them in memory.

    python scripts/made_up_rows.py FOLDER --rows 10000000                              # train, validation and test as JSON Lines
    python scripts/made_up_rows.py FOLDER --rows 10000000 --format parquet --shards 8  # train in eight numbered files
    python scripts/made_up_rows.py FOLDER --rows 10000 --leak 3                        # test has three prompts of train

Prompt and response together have about 200 characters, and the reward in [0, 1] is a function of the response's words. Prompts
are distinct; every fifth has a second response, whose row stands far from the first one. A row is a function of its split and
number, so that files can be made in any order. Files that are there stay. 300,000 rows per second as JSON Lines.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

SYLLABLES = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]
VOCABULARY = 4096
WORDS = np.array(
    [SYLLABLES[i % 70] + SYLLABLES[i // 70] + (SYLLABLES[i * 7 % 70] if i % 2 else "") for i in range(VOCABULARY)], dtype=object
)
NUMBER, PROMPT, RESPONSE = 3, (8, 17), (12, 23)  # words: those that number a prompt, then fewest and most of the others
AGAIN = 5  # every fifth prompt has two responses
FIRST = {"train": 0, "validation": 2 * 10**10, "test": 4 * 10**10}  # numbers of prompts
CHUNK = 10_000  # rows made at a time
FORMATS = ("jsonl", "csv", "parquet")

Numbers = npt.NDArray[np.uint64]
Columns = tuple[list[str], list[str], list[float]]  # prompts, responses, rewards


def drawn(numbers: Numbers, stream: int, columns: int) -> npt.NDArray[np.float64]:
    """(N, columns) values in [0, 1) that depend on N numbers below 2^49 and the stream alone (splitmix64, Steele et al. 2014)."""
    place = numbers[:, None] * np.uint64(128) + np.arange(columns, dtype=np.uint64) + np.uint64(stream << 56)
    found = place * np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        found = (found ^ (found >> np.uint64(shift))) * np.uint64(factor)
    return ((found ^ (found >> np.uint64(31))) >> np.uint64(11)) * 2.0**-53


WORTH = drawn(np.arange(VOCABULARY, dtype=np.uint64), 3, 1)[:, 0]


def texts(numbers: Numbers, stream: int, lengths: tuple[int, int]) -> tuple[list[str], npt.NDArray[np.float64]]:
    """A text of so many words for each number, early ones of the vocabulary more often, and the mean worth of its words."""
    draws = drawn(numbers, stream, lengths[1] + 1)
    count = lengths[0] + (draws[:, 0] * (lengths[1] - lengths[0] + 1)).astype(np.int64)
    words = (draws[:, 1:] ** 2 * VOCABULARY).astype(np.int64)
    worth = np.cumsum(WORTH[words], axis=1)[np.arange(len(words)), count - 1] / count
    return [" ".join(row[:end]) for row, end in zip(WORDS[words].tolist(), count.tolist(), strict=True)], worth


def prompts_of(rows: int) -> int:
    """Distinct prompts of so many rows."""
    return rows - rows // (AGAIN + 1)


@dataclass(frozen=True)
class Split:
    """The rows of a split.

    Attributes:
        name: a key of FIRST.
        rows: how many.
        leaks: of its first prompts are prompts of train.
        train: rows of train.
    """

    name: str
    rows: int
    leaks: int = 0
    train: int = 0

    def columns(self, start: int, stop: int) -> Columns:
        """Some rows."""
        rows = np.arange(start, stop, dtype=np.uint64)
        distinct = np.uint64(prompts_of(self.rows))
        prompts = np.uint64(FIRST[self.name]) + np.where(rows < distinct, rows, (rows - distinct) * np.uint64(AGAIN))
        for place in range(start, min(stop, self.leaks)):
            prompts[place - start] = prompts_of(self.train) * (2 * place + 1) // (2 * self.leaks)
        numbered = (WORDS[prompts // np.uint64(VOCABULARY**digit) % np.uint64(VOCABULARY)] for digit in range(NUMBER))
        asked, _ = texts(prompts, 1, PROMPT)
        said, worth = texts(rows + np.uint64(FIRST[self.name]), 2, RESPONSE)
        rewards = np.clip(0.5 + 2.5 * (worth - 0.5), 0, 1).round(4)
        return [" ".join(words) for words in zip(*numbered, asked, strict=True)], said, rewards.tolist()

    def chunks(self, start: int, stop: int) -> Iterator[Columns]:
        for chunk in range(start, stop, CHUNK):
            yield self.columns(chunk, min(chunk + CHUNK, stop))


def write_file(file: Path, split: Split, start: int, stop: int) -> None:
    """Some rows of a split in a file, of the format that its name ends in."""
    temporary = file.with_name(f".{file.name}.tmp")
    if file.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = pa.schema([("prompt", pa.string()), ("response", pa.string()), ("reward", pa.float64())])
        with pq.ParquetWriter(temporary, schema) as writer:
            for chunk in split.chunks(start, stop):
                writer.write_table(pa.table(dict(zip(schema.names, chunk, strict=True)), schema))
    else:
        row = "{},{},{}\n" if file.suffix == ".csv" else '{{"prompt": "{}", "response": "{}", "reward": {}}}\n'
        with temporary.open("w", encoding="ascii") as stream:
            stream.write("prompt,response,reward\n" if file.suffix == ".csv" else "")
            for chunk in split.chunks(start, stop):
                stream.writelines(map(row.format, *chunk))
    temporary.rename(file)


@dataclass(frozen=True)
class Made:
    """The files of a folder.

    Attributes:
        rows: of train.
        format: one of FORMATS.
        shards: files of train.
        leak: prompts of test that train has, too.
        held_out: rows of validation and of test, each.
    """

    rows: int
    format: str = "jsonl"
    shards: int = 1
    leak: int = 0
    held_out: int = 5000

    def write(self, folder: Path) -> None:
        """Make those that are not there yet."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in FIRST:
            rows, shards = (self.rows, self.shards) if name == "train" else (self.held_out, 1)
            split = Split(name, rows, self.leak if name == "test" else 0, self.rows)
            for shard in range(shards):
                number = f"-{shard:05d}-of-{shards:05d}" if shards > 1 else ""
                file = folder / f"{name}{number}.{self.format}"
                if not file.exists():
                    write_file(file, split, rows * shard // shards, rows * (shard + 1) // shards)


def add_options(parser: argparse.ArgumentParser) -> None:
    """What is made, apart from the number of rows."""
    parser.add_argument("--format", choices=FORMATS, default="jsonl")
    parser.add_argument("--shards", type=int, default=1, metavar="N", help="numbered files of train (default 1)")
    parser.add_argument("--leak", type=int, default=0, metavar="N", help="prompts of train that test has, too (default 0)")
    parser.add_argument("--held-out", type=int, default=5000, metavar="N", help="rows of validation and of test (default 5000)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, required=True)
    add_options(parser)
    given = parser.parse_args()
    Made(given.rows, given.format, given.shards, given.leak, given.held_out).write(given.folder)


if __name__ == "__main__":
    main()
