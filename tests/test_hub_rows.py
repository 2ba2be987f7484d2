"""Rows of the hub: streamed once, and what goes wrong on the way is said with the place and what to do."""

import sys
from types import ModuleType

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_layouts import ROWS, shards
from tiny import composed

from aloll_cli.artifacts.data import Data
from aloll_cli.errors import UserError
from aloll_cli.tasks.source import HubSource, LocalSource

NAME = "somebody/rows"
SINGLES = {
    "prompt": ["a", "b"], "reward": pa.array([0.7, None], pa.float32()),
    "ratings": pa.array([[0.1], None], pa.list_(pa.float32())),
}  # fmt: skip


class Rows:
    """A streamed split, whose features are not known."""

    features = None

    def __init__(self, rows):
        self._rows = rows

    def __iter__(self):
        return self._rows


class Datasets(ModuleType):
    """What is used of the library `datasets`.

    Attributes:
        breaks: by split, after how many rows what is raised.
        read: by split, how many rows were taken.
        asked: the splits that were opened, and "splits" where their names were asked for.
    """

    def __init__(self):
        super().__init__("datasets")
        self.breaks, self.read, self.asked = {}, {}, []

    def get_dataset_split_names(self, name, revision):
        assert (name, revision) == (NAME, "c0ffee")
        self.asked.append("splits")
        if "splits" in self.breaks:
            raise self.breaks["splits"]
        return ["train", "dev"]

    def load_dataset(self, name, split, revision, streaming):
        assert (name, revision, streaming) == (NAME, "c0ffee", True)
        self.asked.append(split)
        return Rows(self._rows(split))

    def _rows(self, split):
        after, error = self.breaks.get(split, (len(ROWS), None))
        for row in ROWS[:after]:
            self.read[split] = self.read.get(split, 0) + 1
            yield row
        if error:
            raise error


@pytest.fixture
def library(monkeypatch):
    found = Datasets()
    monkeypatch.setitem(sys.modules, "datasets", found)
    monkeypatch.setattr("aloll_cli.tasks.source.resolved_revision", lambda *_: "c0ffee")
    return found


def test_rows_are_streamed_and_none_is_taken_before_it_is_wanted(library):
    rows = HubSource(NAME).rows("train")
    assert next(rows) == (f"{NAME}, train row 1", ROWS[0])
    assert library.read == {"train": 1}
    assert [row for _, row in rows] == ROWS[1:]
    assert library.asked == ["train"]


def test_a_connection_that_breaks_off_is_named_with_the_row_and_what_to_do(library):
    library.breaks["train"] = (3, ConnectionError("Server Disconnected"))
    rows = HubSource(NAME).rows("train")
    assert [next(rows)[0] for _ in range(3)] == [f"{NAME}, train row {number}" for number in (1, 2, 3)]
    with pytest.raises(UserError) as refused:
        next(rows)
    what, hint = str(refused.value).split("\n")
    assert what == f"{NAME}, train row 4: Server Disconnected."
    assert hint.startswith(
        "Repeat the command, or download the data set and read the folder: hf download somebody/rows --repo-type"
    )


def test_what_the_library_cannot_read_is_said_without_the_advice_to_repeat(library):
    library.breaks = {"splits": ValueError("Config name is missing. Please pick one among the available configs: ['en', 'fr']")}
    with pytest.raises(
        UserError, match=r"^somebody/rows: Config name is missing\. .*'fr'\]\.\nDownload the data set and read the"
    ):
        HubSource(NAME).splits()
    library.breaks = {"train": (0, KeyError())}
    with pytest.raises(UserError, match=r"somebody/rows, train row 1: KeyError\.\nDownload"):
        next(HubSource(NAME).rows("train"))


def test_memory_that_runs_out_is_no_fault_of_the_hub(library):
    library.breaks["train"] = (0, MemoryError())
    with pytest.raises(MemoryError):
        next(HubSource(NAME).rows("train"))


def test_the_names_of_splits_are_asked_for_once_and_others_are_said(library):
    data = Data(composed("task=local", "task.seam=space", f"task.hub={NAME}").task)
    lines = data.reading()
    assert lines == [
        "splits that are not read: dev",
        "between the first prompt and its response a space is added (task.seam=space)",
    ]
    assert library.asked.count("splits") == 1
    assert library.read == {"train": 1}


@pytest.mark.slow
def test_the_library_reads_the_folder_of_a_data_set_as_it_is_read_here(tmp_path, monkeypatch):
    """A repository of the hub on this machine, with numbered files in data/ and a card."""
    monkeypatch.setattr("aloll_cli.tasks.source.resolved_revision", lambda *_: None)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "rows"
    shards(root / "data", [f"train-{i:05d}-of-00003.parquet" for i in range(3)])
    shards(root / "data", ["validation-00000-of-00001.parquet"], ROWS[:2])
    (root / "README.md").write_text("---\nlicense: mit\n---\n# Rows\n")
    hub, local = HubSource(str(root)), LocalSource(str(root))
    assert hub.splits() == local.splits() == ("train", "validation")
    for split in local.splits():
        assert [row for _, row in hub.rows(split)] == [row for _, row in local.rows(split)]
    root = tmp_path / "singles"
    shards(root / "data", ["train-00000-of-00001.parquet"])
    pq.write_table(pa.table(SINGLES), root / "data" / "train-00000-of-00001.parquet")
    assert [row["reward"] for _, row in HubSource(str(root)).rows("train")] == [0.7, None]
    assert [row for _, row in HubSource(str(root)).rows("train")] == [row for _, row in LocalSource(str(root)).rows("train")]
    with pytest.raises(UserError, match=r"rows, test: .*[Bb]ad split: test\..*\nDownload the data set"):
        next(hub.rows("test"))
