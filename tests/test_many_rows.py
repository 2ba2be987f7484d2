"""What is found out of many rows: parts of keys, tokens in a file, blocks of large tables, and a bound on what is read."""

import subprocess
import sys
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import composed, job, store, write_rows

from aloll_cli import keys
from aloll_cli.artifacts import fitted_reward
from aloll_cli.artifacts.as_seen import Pairs, count_pairs
from aloll_cli.artifacts.fitted_reward import rows_to_fit
from aloll_cli.artifacts.pipeline import Pipeline
from aloll_cli.store import rows, tables
from aloll_cli.store.rows import StoredRows, TableRows
from aloll_cli.store.tables import open_blocks, read_blocks, read_numbers, write_blocks
from aloll_cli.tasks.base import SPLITS
from aloll_cli.text.token_file import StoredTokens, TokenFile

SMALL = st.lists(st.integers(0, 40) | st.integers(2**64 - 40, 2**64 - 1), max_size=60)


def of(numbers):
    return np.array(numbers, dtype=np.uint64)


@given(SMALL, SMALL, st.integers(1, 70))
def test_what_is_found_part_by_part_is_what_python_finds_at_once(first, second, part):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keys, "PART", part)
        assert keys.distinct(of(first)) == len(set(first))
        assert keys.shared(of(first), of(second)).tolist() == sorted(set(first) & set(second))
        assert keys.count_in(of(first), of(second)) == sum(key in set(second) for key in first)
        numbers, firsts = keys.numbered(of(first))
        order = list(dict.fromkeys(first))
        assert numbers.tolist() == [order.index(key) for key in first]
        assert firsts.tolist() == [first.index(key) for key in order]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=40), st.integers(1, 9))
def test_pairs_are_counted_part_by_part(rows, part):
    groups, rewards, texts = (np.array(column) for column in zip(*rows, strict=True))
    pairs = [(a, b) for i, a in enumerate(rows) for b in rows[:i] if a[0] == b[0] and a[1] != b[1]]
    different = sum(a[2] != b[2] for a, b in pairs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keys, "PART", part)
        found = count_pairs(groups, rewards.astype(np.float32), texts.astype(np.uint64))
    assert found == Pairs(different, len(pairs) - different)


@given(st.lists(st.integers(0, 2**64 - 1), max_size=20))
def test_a_key_has_a_name_of_16_digits(numbers):
    names = [keys.name_of_key(number) for number in numbers]
    assert keys.of_names(names).tolist() == numbers
    assert all(len(name) == 16 for name in names)


@pytest.mark.parametrize("names", [["abc"], ["00000000000000zz"], ["0" * 8, "0" * 24], ["0000 0000 000000"]])
def test_another_name_is_no_key(names):
    with pytest.raises(ValueError, match="hexadecimal"):
        keys.of_names(names)


TOKENS = pa.table({"prompt_ids": [[1], [2, 2], [3, 3, 3], [4] * 4], "response_ids": [[70_000, 5], [6], [7], [8, 9]]})


@pytest.mark.parametrize("rows", [None, [0, 3], [2]])
def test_tokens_are_read_back_from_files_without_a_name(tmp_path, rows):
    write_blocks(job(tmp_path), "tokens", 4, "tokens", lambda start, stop: TOKENS.slice(start, stop - start), block=3)
    before = sorted(tmp_path.rglob("*"))
    stored = StoredTokens(tmp_path / "tokens", None if rows is None else np.array(rows))
    for row in rows or range(4):
        assert stored.prompt_ids(row).tolist() == TOKENS.column("prompt_ids")[row].as_py()
        assert stored.response_ids(row).tolist() == TOKENS.column("response_ids")[row].as_py()
    chosen = np.array(rows or range(4))[::-1]
    assert stored.prompt_lengths(chosen).tolist() == (chosen + 1).tolist()
    assert stored.response_ids(chosen[0]).dtype == np.int64
    assert sorted(tmp_path.rglob("*")) == before
    if rows is not None:
        with pytest.raises(KeyError, match="1"):
            stored.prompt_ids(1)


def test_where_the_disk_of_the_table_cannot_be_written_to_another_is_used(tmp_path):
    stored = TokenFile(TableRows(TOKENS), "response_ids", None, near=tmp_path / "gone")
    assert stored.ids(0).tolist() == [70_000, 5]


def test_a_full_disk_is_named_with_what_helps(tmp_path):
    code = f"""if True:
        import resource, signal
        import pyarrow as pa
        from pathlib import Path
        from aloll_cli.errors import UserError
        from aloll_cli.store.rows import TableRows
        from aloll_cli.text import token_file
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        token_file.FULL += (27,)  # EFBIG: what a limit says instead of a full disk
        table = pa.table({{"response_ids": [[7] * 3000]}})
        try:
            token_file.TokenFile(TableRows(table), "response_ids", None, near=Path({str(tmp_path)!r}))
        except UserError as error:
            print(error)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.startswith(f"{tmp_path}: no space is left for a copy of the token ids"), done
    assert done.stderr == ""


def test_row_groups_that_were_asked_for_last_stay_in_memory(tmp_path, monkeypatch):
    table = pa.table({"number": range(50)})
    pq.write_table(table, tmp_path / "rows.parquet", row_group_size=10)
    opened, read = StoredRows([tmp_path / "rows.parquet"]), []
    groups_of = StoredRows._groups_of
    monkeypatch.setattr(
        StoredRows, "_groups_of", lambda self, file, numbers: read.append(list(numbers)) or groups_of(self, file, numbers)
    )
    monkeypatch.setattr(rows, "HELD", 2 * groups_of(opened, tmp_path / "rows.parquet", [0]).nbytes)
    read.clear()
    assert opened.take(np.array([3, 12])).column("number").to_pylist() == [3, 12]
    assert opened.take(np.array([4, 25])).column("number").to_pylist() == [4, 25]  # the second group goes
    assert opened.slice(5, 8).column("number").to_pylist() == list(range(5, 13))
    assert read == [[0], [1], [2], [1]]
    assert opened.slice(50, 0).num_rows == 0
    monkeypatch.setattr(rows, "TOGETHER", 25)
    assert [batch.num_rows for batch in opened.batches()] == [20, 20, 10]
    assert pa.concat_tables(opened.batches()).equals(table)


def test_a_large_table_has_larger_blocks_and_blocks_of_another_size_are_computed_again(tmp_path, monkeypatch):
    build, calls = job(tmp_path), Counter()

    def compute(start, stop):
        calls[stop - start] += 1
        return pa.table({"id": [str(i) for i in range(start, stop)], "number": [i / 2 for i in range(start, stop)]})

    write_blocks(build, "numbers", 1000, "count", compute)
    assert calls == {256: 3, 232: 1}
    monkeypatch.setattr(tables, "MOST_BLOCKS", 3)  # 1,000 rows are more than 3 blocks hold
    write_blocks(build, "numbers", 1000, "count", compute)
    assert calls == {256: 3, 232: 1, 512: 1, 488: 1}
    folder = build.directory / "numbers"
    assert len(list(folder.iterdir())) == 2
    assert read_blocks(folder).column("id").to_pylist() == [str(i) for i in range(1000)]
    assert read_numbers(folder, "number").tolist() == [i / 2 for i in range(1000)]
    rows = open_blocks(folder, ["id"])
    assert rows.take(np.array([3, 511, 512, 999])).column("id").to_pylist() == ["3", "511", "512", "999"]
    write_blocks(build, "numbers", 1000, "count", compute)
    assert calls.total() == 6  # both are kept


def test_of_many_responses_a_reward_is_fitted_on_those_to_a_fixed_subset_of_the_prompts(tmp_path, monkeypatch):
    rows = [
        {"prompt": f"Visit {i}.", "response": f"{word}.", "reward": 0.5 if i % 4 else None}
        for i in range(40)
        for word in ("Good", "Bad")
    ]
    for split in SPLITS:
        write_rows(tmp_path / "rows" / f"{split}.jsonl", [row | {"prompt": f"{split}: {row['prompt']}"} for row in rows])
    line = Pipeline(composed("task=local", f"task.path={tmp_path / 'rows'}", "reward=column"))
    opened, said = store(tmp_path / "out"), []
    opened.ensure(line.data)
    build = SimpleNamespace(path=opened.path, log=SimpleNamespace(say=said.append))
    every = rows_to_fit(build, line.data, "train")
    assert [row.response for row in every] == [row["response"] for row in rows]
    assert said == []
    monkeypatch.setattr(fitted_reward, "MOST_FITTED", 21)
    some = rows_to_fit(build, line.data, "train")
    assert said == ["  train: 20 of 60 rated responses are read, those to a fixed subset of the prompts"]
    assert [row for row in every if row.id in {row.id for row in some}] == some
    assert set(Counter(row.prompt for row in some).values()) == {2}
    assert all(row.stored == 0.5 for row in some)
