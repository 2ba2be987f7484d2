"""Folders of several files, as people and the hub lay them out: read whole and in order, or refused by name."""

import gzip
import json
import random

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from tiny import write_rows

from aloll_cli.errors import UserError
from aloll_cli.tasks import json_array
from aloll_cli.tasks.source import LocalSource

ROWS = [{"prompt": f"Visit {i}.", "response": "Good.", "reward": i / 100} for i in range(24)]
KINDS = ("jsonl", "jsonl.gz", "json", "csv", "parquet")


def write(file, rows):
    """Rows in a file of the kind that its name says."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), file)
    elif file.name.endswith(".csv"):
        pa.csv.write_csv(pa.Table.from_pylist(rows), file)
    elif file.name.endswith(".json"):
        file.write_text(json.dumps(rows))
    elif file.name.endswith(".gz"):
        file.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode(), mtime=0))
    else:
        write_rows(file, rows)


def shards(folder, names, rows=ROWS):
    """Rows spread over files, the first ones in the first file."""
    for number, name in enumerate(names):
        write(folder / name, rows[len(rows) * number // len(names) : len(rows) * (number + 1) // len(names)])


def prompts(source, split="train"):
    return [row["prompt"] for _, row in source.rows(split)]


WHOLE = [row["prompt"] for row in ROWS]
LAYOUTS = {
    "numbered": "train-{:05d}-of-00012.{}",
    "numbered without zeros": "train-{}-of-12.{}",
    "without a total": "train_{:02d}.{}",
    "without a total and zeros": "train{}.{}",
    "the hub's": "data/train-{:05d}-of-00012.{}",
    "with hashes": "data/train-{:05d}-of-00012-b42a775f407cee45.{}",
    "a folder": "train/part-{}.{}",
    "a folder of the converted branch": "train/{:04d}.{}",
    "folders in data": "data/train/{}.{}",
    "a folder of a numbered set": "train/rows-{:05d}-of-00012.{}",
}


@pytest.mark.parametrize("kind", KINDS)
def test_twelve_files_of_a_split_are_read_whole_and_in_order_in_every_layout(tmp_path, kind):
    contents = {}
    for number, (layout, name) in enumerate(LAYOUTS.items()):
        root = tmp_path / str(number)
        shards(root, [name.format(i, kind) for i in range(12)])
        source = LocalSource(str(root))
        assert prompts(source) == WHOLE, layout
        assert source.splits() == ("train",)
        assert source.describe() == []
        contents[layout] = source.content()["train"]
    assert len({*contents.values()}) == 1  # rows are known by their content, not by the names of their files
    assert contents["numbered"].count("+") == 11


def test_splits_in_folders_have_the_usual_names(tmp_path):
    for split, rows in (("train", ROWS[:4]), ("dev", ROWS[4:6]), ("test", ROWS[6:])):
        shards(tmp_path / split, ["part-00000-7c1d.c000.parquet", "part-00001-02aa.c000.parquet"], rows)
        (tmp_path / split / "_SUCCESS").touch()
        (tmp_path / split / "._part-00000.parquet").write_text("of the system")
        write(tmp_path / split / "_metadata.json", [])
    source = LocalSource(str(tmp_path))
    assert source.splits() == ("train", "validation", "test")
    assert [prompts(source, split) for split in source.splits()] == [WHOLE[:4], WHOLE[4:6], WHOLE[6:]]
    assert source.describe() == []


def test_a_folder_of_the_name_of_a_split_changes_nothing_beside_a_train_file_and_is_named(tmp_path):
    write(tmp_path / "train.jsonl", ROWS)
    content = LocalSource(str(tmp_path)).content()
    for name in ("train/part-0.jsonl", "test/part-0.jsonl", "data/train.jsonl", "data/dev/0.csv"):
        write(tmp_path / name, ROWS[:1])
    source = LocalSource(str(tmp_path))
    assert (source.splits(), source.content(), prompts(source)) == (("train",), content, WHOLE)
    names = "data/dev/0.csv, data/train.jsonl, test/part-0.jsonl, train/part-0.jsonl"
    assert source.describe()[0].startswith(f"files that are not read: {names} (splits are called train, ")


def test_an_empty_file_of_a_set_has_no_rows(tmp_path):
    header = b"prompt,response,reward\n"
    for kind, empty in (("jsonl", b""), ("jsonl.gz", gzip.compress(b"")), ("csv", b""), ("csv", header), ("json", b"[]")):
        root = tmp_path / f"{kind} {len(empty)}"
        shards(root, [f"train-{i}-of-3.{kind}" for i in range(3)])
        write(root / f"train-0-of-3.{kind}", ROWS[:8])
        (root / f"train-1-of-3.{kind}").write_bytes(empty)
        assert prompts(LocalSource(str(root))) == WHOLE[:8] + WHOLE[16:]
    root = tmp_path / "parquet"
    shards(root, ["train-0-of-2.parquet", "train-1-of-2.parquet"])
    write(root / "train-0-of-2.parquet", [])
    assert prompts(LocalSource(str(root))) == WHOLE[12:]
    (root / "train-0-of-2.parquet").write_bytes(b"")
    with pytest.raises(UserError, match=r"train-0-of-2\.parquet: not a valid Parquet file: .*size is 0"):
        prompts(LocalSource(str(root)))


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_tables_of_different_columns_in_a_split_are_refused_by_name(tmp_path, kind):
    shards(tmp_path, [f"train-{i}.{kind}" for i in range(3)])
    write(tmp_path / f"train-2.{kind}", [{"response": "Good.", "prompt": "Visit.", "score": 0.5}])
    with pytest.raises(UserError) as refused:
        prompts(LocalSource(str(tmp_path)))
    assert str(refused.value).startswith(
        f"{tmp_path}/train-2.{kind}: other columns than in train-0.{kind}; missing: reward; not there: score."
    )
    write(tmp_path / f"train-2.{kind}", [{"reward": 0.5, "response": "Good.", "prompt": "Visit."}])  # in another order
    assert prompts(LocalSource(str(tmp_path)))[-1] == "Visit."


SET = "train-00000-of-00002"
REFUSED = {
    "a missing file": ([f"data/{SET}.jsonl"], rf"1 of the 2 files of train are there \({SET}\.jsonl\)"),
    "a missing file in a folder": (["train/a-0-of-2.csv", "train/b-0-of-1.csv"], r"1 of the 2 files of train .*a-0-of-2\.csv"),
    "one number twice": ([f"{SET}-{'a' * 16}.csv", f"{SET}-{'b' * 16}.csv"], rf"found both {SET}-a+\.csv and {SET}-b+\.csv"),
    "two sets": (["train-0-of-1.csv", "train-0-of-2.csv"], r"found both train-0-of-1\.csv and train-0-of-2\.csv"),
    "a set and one more": (["train-0-of-2.csv", "train-1-of-2.csv", "train_2.csv"], r"both train-0-of-2\.csv and train_2\.csv"),
    "two kinds": (["train-0.jsonl", "train-1.jsonl.gz"], r"found both train-0\.jsonl and train-1\.jsonl\.gz"),
    "two kinds in a folder": (["train/0.jsonl", "train/1.csv"], r"found both train/0\.jsonl and train/1\.csv"),
    "two names of a split": (
        ["data/train/0.csv", "data/val/0.csv", "data/dev/0.csv"],
        r"both data/val/0\.csv and data/dev/0\.csv",
    ),
    "a file and a folder": (["train/0.csv", "test/0.csv", "test.csv"], r"found both test\.csv and test/0\.csv"),
    "folders in a folder": (
        ["train/0.csv", "train/more/1.csv"],
        r"train/ has a folder of files, more/\.\nPut all files of a split",
    ),
    "save_to_disk": (["train/data-00000-of-00001.arrow", "train/state.json"], r"train/ holds Arrow files .*\n.*to_parquet"),
    "another folder": (["en/data/train-0.csv"], r"no train file\.\nName the folder that has one: task\.path=.*/en$"),
    "other folders": (["en/train.csv", "fr/train/0.csv"], r"task\.path=.*/en \(there is one in en, fr\)$"),
    "no names": (["rows-0.csv", "rows-1.csv"], r"no train file\.\nName it train\.jsonl .*, or put the files into a folder train"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_incomplete_or_not_clear_is_refused_by_name(tmp_path, case):
    names, message = REFUSED[case]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("prompt,response\n")
    with pytest.raises(UserError, match=message):
        LocalSource(str(tmp_path))


def test_the_folder_of_a_split_is_not_the_data_and_the_one_above_it_is_named(tmp_path):
    shards(tmp_path / "rows" / "train", ["0.csv", "1.csv"])
    with pytest.raises(UserError, match=r"no train file\.\nName the folder above it: task\.path=.*/rows$"):
        LocalSource(str(tmp_path / "rows" / "train"))


def test_numbers_between_files_that_are_not_there_and_a_single_file_of_a_set_are_said(tmp_path):
    shards(tmp_path, ["train_1.jsonl", "train_2.jsonl", "train_10.jsonl"])
    source = LocalSource(str(tmp_path))
    assert prompts(source) == WHOLE
    assert source.describe() == ["between train_2.jsonl and train_10.jsonl no numbers are there"]
    shards(tmp_path / "set", ["train-0-of-2.jsonl", "train-1-of-2.jsonl"])
    source = LocalSource(str(tmp_path / "set" / "train-0-of-2.jsonl"))
    assert source.describe() == [f"train-0-of-2.jsonl is one of 2 files: task.path={tmp_path}/set reads them all"]


def test_a_folder_of_two_thousand_files_is_read_in_order(tmp_path):
    names = [f"train-{i:05d}-of-02000.jsonl" for i in range(2000)]
    for i in random.Random(1).sample(range(2000), 2000):
        (tmp_path / names[i]).write_text(f'{{"prompt": "{i}"}}\n')
    assert prompts(LocalSource(str(tmp_path))) == [str(i) for i in range(2000)]


def test_a_json_array_is_read_in_pieces_wherever_they_end(tmp_path, monkeypatch):
    rows = [{"prompt": 'a "quoted" \\ ünïcode 😀', "n": -1.5e-3, "yes": [True, None, {"x": "[,]"}]}, {}, {"long": "x" * 100}]
    text = json.dumps(rows, indent=1, ensure_ascii=False) + "\n \n"
    (tmp_path / "rows.json").write_text(text)
    for piece in range(1, 40):
        monkeypatch.setattr(json_array, "PIECE", piece)
        assert [row for _, row in LocalSource(str(tmp_path / "rows.json")).rows("all")] == rows


@pytest.mark.parametrize(
    "text",
    [
        '[{"a": 1},\n{"a" 2}]',
        '[{"a": 1}\n{"a": 2}]',
        '[{"a": 1},\n\n ]',
        '[{"a": 1}',
        '[{"a": "b\n"}]',
        '[{"a": 1}]\n ]',
        "[",
        '[{"a": tru}]',
    ],
)
def test_a_mistake_in_a_json_array_is_named_with_the_line_and_column_that_python_names(tmp_path, monkeypatch, text):
    with pytest.raises(json.JSONDecodeError) as told:
        json.loads(text)
    (tmp_path / "rows.json").write_text(text)
    for piece in (1, 3, 1000):
        monkeypatch.setattr(json_array, "PIECE", piece)
        with pytest.raises(UserError) as refused:
            list(LocalSource(str(tmp_path / "rows.json")).rows("all"))
        assert f"not valid JSON: {told.value.msg} at line {told.value.lineno}, column {told.value.colno}." in str(refused.value)


def test_reading_a_parquet_file_of_one_row_group_takes_no_memory_that_grows_with_it(tmp_path):
    draw = random.Random(1)
    table = pa.table({"prompt": [draw.randbytes(2000).hex() for _ in range(5000)]})  # 20 MB
    pq.write_table(table, tmp_path / "rows.parquet", row_group_size=5000, compression="none", use_dictionary=False)
    del table
    before, peak, count = pa.total_allocated_bytes(), 0, 0
    for _ in LocalSource(str(tmp_path / "rows.parquet")).rows("all"):
        peak, count = max(peak, pa.total_allocated_bytes() - before), count + 1
    assert count == 5000
    assert peak < 12e6
