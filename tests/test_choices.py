from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from tiny import composed, reviews, store, write_rows

from aloll_cli.artifacts.logged_data import noise_shares
from aloll_cli.artifacts.pipeline import Pipeline
from aloll_cli.artifacts.raw_table import load_data
from aloll_cli.artifacts.rewards import load_rewards
from aloll_cli.artifacts.selected_responses import SelectedResponses
from aloll_cli.errors import UserError
from aloll_cli.store.tables import read_blocks
from aloll_cli.tasks.selection import noise_sources, of_subsets, rated, within
from aloll_cli.text.examples import ExampleTable

RAW = pa.table({"stored": [0.0, 1.0, None, -6.0, 66.0], "subset": ["a", "b", None, "a", "c"]})


@pytest.mark.parametrize(
    ("lo", "hi", "kept"),
    [
        (None, None, [0, 1, 3, 4]),
        (1, None, [1, 4]),
        (None, -6, [3]),
        (0, 1, [0, 1]),
        (66, 66, [4]),
    ],
)
def test_bounds_keep_the_stored_rewards_between_them_and_none_that_is_unknown(lo, hi, kept):
    assert np.flatnonzero(within(RAW, lo, hi)).tolist() == kept


def test_bounds_that_keep_nothing_name_themselves_and_what_there_is():
    with pytest.raises(UserError, match=r"task\.min_reward=67 leaves no training response\.\nStored rewards lie in \[-6, 66\]\."):
        within(RAW, 67, None)
    bare = pa.table({"stored": pa.nulls(2, pa.float64())})
    with pytest.raises(UserError, match=r"task\.max_reward=1 leaves no training response\.\nNo rewards are stored"):
        within(bare, None, 1)


def test_responses_without_a_stored_reward_are_left_out_where_asked_to():
    assert np.flatnonzero(rated(RAW, "train")).tolist() == [0, 1, 3, 4]
    bare = pa.table({"stored": pa.nulls(2, pa.float64())})
    with pytest.raises(UserError, match=r"task\.unrated=drop leaves no response of the test split: none has a stored reward\."):
        rated(bare, "test")
    assert rated(bare.slice(0, 0), "test").tolist() == []


def test_of_logs_of_which_a_part_is_rated_that_part_is_used_in_every_split(tmp_path):
    (tmp_path / "rows").mkdir()
    sizes = {"train": 60, "validation": 12, "test": 12}
    for split, size in sizes.items():
        rated_as = [i % 2 if i % 3 else None for i in range(size)]
        rows = [{"prompt": f"Ask {split} {i}", "response": f"Say {i}.", "reward": reward} for i, reward in enumerate(rated_as)]
        write_rows(tmp_path / "rows" / f"{split}.jsonl", rows)
    options = ("task=local", f"task.path={tmp_path / 'rows'}", "reward=column", "values=data", "model.vocab_size=300")
    kept, dropped = (Pipeline(composed(*options, f"task.unrated={how}")).rewards for how in ("keep", "drop"))
    made = store(tmp_path)
    for split, size in sizes.items():
        made.ensure(dropped(split))
        assert load_rewards(made.path(dropped(split))).tolist() == [float(i % 2) for i in range(size) if i % 3]
    with pytest.raises(UserError, match=r"example test-0-0 has no stored reward\.\ntask\.unrated=drop leaves out responses"):
        made.ensure(kept("test"))


def test_subsets_keep_their_rows_and_one_that_is_not_there_names_those_that_are():
    assert np.flatnonzero(of_subsets(RAW, ["a", "c"])).tolist() == [0, 3, 4]
    with pytest.raises(UserError, match=r"no response belongs to task\.subsets=\['d'\]\.\nThe data has: a, b, c\."):
        of_subsets(RAW, ["d"])


IDS = [f"train-{i}-0" for i in range(400)]
GROUPS = np.arange(400) // 3  # three responses to each prompt but the last


def noisy(share, seed=1, ids=IDS):
    return np.flatnonzero(noise_sources(ids, GROUPS, share, seed) != np.arange(len(ids)))


@pytest.mark.parametrize("share", [0.0, 0.01, 0.25, 0.5, 0.99])
def test_noise_replaces_exactly_its_share_and_only_by_responses_to_other_prompts(share):
    sources = noise_sources(IDS, GROUPS, share, 1)
    replaced = sources != np.arange(400)
    assert replaced.sum() == round(share * 400)
    assert (GROUPS[sources[replaced]] != GROUPS[replaced]).all()


def test_a_larger_share_replaces_the_same_rows_and_more_and_another_seed_replaces_others():
    assert set(noisy(0.1)) < set(noisy(0.25)) < set(noisy(0.5))
    assert noisy(0.25).tolist() == noisy(0.25).tolist()
    assert len(set(noisy(0.25)) & set(noisy(0.25, seed=2))) < 50


def test_which_rows_are_replaced_follows_their_names_and_not_their_order():
    order = np.random.default_rng(0).permutation(400)
    shuffled = noisy(0.25, ids=[IDS[i] for i in order])
    assert set(order[shuffled]) == set(noisy(0.25))


def test_every_response_to_another_prompt_can_be_drawn():
    groups = np.array([0, 0, 1, 2])
    drawn = {i: set() for i in range(4)}
    for seed in range(200):
        for row, source in enumerate(noise_sources(IDS[:4], groups, 0.75, seed)):
            if source != row:
                drawn[row].add(int(source))
    assert drawn == {0: {2, 3}, 1: {2, 3}, 2: {0, 1, 3}, 3: {0, 1, 2}}


def test_noise_needs_a_second_prompt():
    with pytest.raises(UserError, match="the data has only one prompt"):
        noise_sources(["a", "b"], np.zeros(2, dtype=np.int64), 0.5, 1)


def test_examples_hold_other_prompts_responses_where_they_say_noise_and_data_stays_as_it_was(tmp_path):
    line = Pipeline(composed(f"task.path={reviews(tmp_path / 'rows')}", "task.noise=0.25", "task.max_response_tokens=40"))
    opened = store(tmp_path / "out")
    folder = opened.ensure(line.examples)
    raw = load_data(opened.path(line.data), "train").to_pylist()
    own = {row["id"]: row["response"] for row in raw}
    for split, count in (("train", 6), ("validation", 0), ("test", 0)):
        examples = ExampleTable(folder / split)
        assert examples.noise.sum() == count
    rows = read_blocks(folder / "train").to_pylist()
    assert [row["noise"] for row in rows] == [row["response"] != own[row["id"]] for row in rows]
    assert {row["response"] for row in rows} <= set(own.values())


def test_blocks_of_rows_and_noise_are_what_the_whole_table_gives(tmp_path):
    """Row groups of the data and blocks of the examples may end anywhere."""
    rng = np.random.default_rng(0)
    rows = pa.table({
        "id": [f"train-{i}-0" for i in range(100)], "group": [f"{i // 2:016x}" for i in range(100)],
        "position": [0] * 100, "parts": [[{"text": str(i)}] for i in range(100)], "response": [f"A{i}" for i in range(100)],
        "stored": rng.permutation(100).astype(float), "subset": ["a", "b", "b", "a"] * 25,
    })  # fmt: skip
    pyarrow.parquet.write_table(rows, tmp_path / "train.parquet", row_group_size=7)
    task = composed("task.path=x", "task.noise=0.3", "task.subsets=[b]", "task.min_reward=20", "task.responses=best").task
    learned = SelectedResponses(tmp_path, "train", task, SimpleNamespace(log=SimpleNamespace(say=lambda text: None)))
    whole = learned.slice(0, len(learned))
    kept = [i for i in range(100) if rows["subset"][i].as_py() == "b" and rows["stored"][i].as_py() >= 20]
    assert whole.column("id").to_pylist() == [f"train-{i}-0" for i in kept]
    blocks = [learned.slice(start, min(start + 4, len(learned))) for start in range(0, len(learned), 4)]
    assert pa.concat_tables(blocks).equals(whole)
    for i, row in zip(kept, whole.to_pylist(), strict=True):
        assert row["noise"] == (row["response"] != f"A{i}") == (row["stored"] is None)
    assert sum(whole.column("noise").to_pylist()) == round(0.3 * len(kept))
    assert set(whole.column("response").to_pylist()) <= {f"A{i}" for i in kept}


def test_the_shares_of_noise_are_told_as_by_hand():
    noise, weights = np.array([True, False, True, False]), np.array([0.0, 1.0, 2.0, 0.0])
    assert noise_shares(noise, weights) == "50.0% of all responses, 50.0% of the unused ones, 50.0% of the used ones"
    assert noise_shares(noise, np.array([0.0, 1.0, 2.0, 3.0])) == (
        "50.0% of all responses, 100.0% of the unused ones, 33.3% of the used ones"
    )
    assert noise_shares(noise, np.ones(4)) == "50.0% of all responses, 50.0% of the used ones"
