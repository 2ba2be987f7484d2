import gzip
import json
import os
import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny import composed, opened, reviews, store, write_rows
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from aloll_cli.artifacts.data import Data
from aloll_cli.artifacts.pipeline import Pipeline
from aloll_cli.artifacts.raw_table import load_data
from aloll_cli.errors import UserError
from aloll_cli.files import read_json
from aloll_cli.tasks.base import SPLITS, BadRow, Dropped, turns
from aloll_cli.tasks.options import OnBadRow, Responses
from aloll_cli.tasks.selection import chosen_rows, limited
from aloll_cli.tasks.source import LocalSource
from aloll_cli.tasks.splits import prompt_key
from aloll_cli.text.examples import ExampleTable

HHA = composed("task=hha").task
PRO = {
    "prefix": [["<|prompter|>Hi there ", "<|assistant|> Hello!", "<|prompter|>Who are you?", "<|assistant|>"]] * 2,
    "suffix": ["A friend.", " Go away. "],
    "reward": [0.7, -0.4],
}
DIALOGUE = "\n\nHuman: Hi there\n\nAssistant: Hello!\n\nHuman: Who are you?\n\nAssistant:"
HUB = {"chosen": f"{DIALOGUE} A friend.", "rejected": f"{DIALOGUE} Go away."}


def data(root, *overrides):
    """The rows artifact of a composed task, made."""
    artifact = Data(composed(*overrides).task)
    return artifact, store(root).ensure(artifact)


def test_a_pro_row_and_a_hub_row_of_one_dialogue_give_the_same_prompt_and_responses():
    pro, hub = HHA.records(PRO), HHA.records(HUB)
    assert [r.prompt for r in pro] == [r.prompt for r in hub]
    assert [r.response for r in pro] == [r.response for r in hub] == [" A friend.", " Go away."]
    assert [r.group for r in pro] == [r.group for r in hub]
    assert [r.reward for r in pro] == [0.7, -0.4]
    assert [r.reward for r in hub] == [None, None]
    assert [r.position for r in pro] == [0, 1]


def test_a_prompt_of_hha_is_that_of_the_published_adapter_to_the_byte():
    record = HHA.records(PRO)[0]
    assert record.prompt.encode() == (
        b"A chat between a curious human and an artificial intelligence assistant. The assistant gives helpful, detailed, and "
        b"polite answers to the user's questions.\n### Human: Hi there ### Assistant: Hello! ### Human: Who are you?"
        b" ### Assistant:"
    )
    assert [part.role for part in record.parts] == ["system", "user", "assistant", "user", "assistant"]


def test_turns_are_what_was_said_without_tags_also_where_somebody_quotes_a_tag():
    prefix = ["<|prompter|>Hi ### Assistant: I obey.", "<|assistant|> ### Human: no", "<|prompter|>Who?", "<|assistant|>"]
    record = HHA.records(PRO | {"prefix": [prefix] * 2})[0]
    system, *said = turns([vars(part) for part in record.parts])
    assert system["role"] == "system"
    assert said == [
        {"role": "user", "content": "Hi ### Assistant: I obey."},
        {"role": "assistant", "content": "### Human: no"},
        {"role": "user", "content": "Who?"},
        {"role": "assistant", "content": ""},
    ]


def test_a_pro_row_names_the_folder_of_hh_rlhf_that_it_comes_from_and_a_hub_row_none():
    subsets = {
        json.dumps(row): [record.subset for record in HHA.records(row)]
        for row in (
            PRO | {"meta": {"path": "../../data/raw_data/hhrlhf/helpful-rejection-sampled/train.jsonl", "line_num": 3}},
            PRO | {"meta": {"path": "elsewhere/helpful-based/train.jsonl"}},
            PRO,
            HUB,
        )
    }
    assert list(subsets.values()) == [["helpful-rejection-sampled"] * 2, [None] * 2, [None] * 2, [None] * 2]


def test_a_colon_within_a_turn_starts_no_new_one():
    row = {name: text.replace("Who are you?", "Tell me: who\nAssistant: is?") for name, text in HUB.items()}
    assert "Tell me: who\nAssistant: is? ### Assistant:" in HHA.records(row)[0].prompt


def test_rows_with_a_response_that_ends_in_a_colon_are_dropped():
    with pytest.raises(Dropped, match="a response ends in a colon"):
        HHA.records(PRO | {"suffix": ["Here it is: ", "No."]})
    with pytest.raises(Dropped, match="a response ends in a colon"):
        HHA.records(HUB | {"rejected": f"{DIALOGUE} Here it is:"})


def test_hub_rows_that_answer_different_prompts_are_dropped():
    with pytest.raises(Dropped, match="answer different prompts"):
        HHA.records(HUB | {"rejected": "\n\nHuman: Bye\n\nAssistant: Bye."})


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (PRO | {"suffix": "A friend."}, r"""field "suffix": expected a list of texts, got 'A friend\.'"""),
        (PRO | {"reward": [0.7]}, r'field "reward": expected 2 numbers, got \[0\.7\]'),
        (PRO | {"reward": [0.7, "n/a"]}, """field "reward": expected a number, got 'n/a'"""),
        (PRO | {"reward": [0.7, True]}, 'field "reward": expected a number, got True'),
        (PRO | {"reward": [0.7, float("nan")]}, 'field "reward": expected a finite number, got nan'),
        (PRO | {"prefix": [["<|prompter|>Hi"], ["<|prompter|>Ho"]]}, 'field "prefix" must contain the same turns'),
        (PRO | {"prefix": [["Hi"]] * 2}, """field "prefix": 'Hi' starts with neither"""),
        ({"chosen": HUB["chosen"]}, """field "rejected" is missing; the row has the fields 'chosen'"""),
        (HUB | {"chosen": None}, 'field "chosen": expected text, got None'),
        (HUB | {"chosen": "Hello!"}, """field "chosen": expected turns that end with the assistant's, got 'Hello!'"""),
    ],
)
def test_a_bad_row_names_the_field_what_was_expected_and_what_was_found(row, message):
    with pytest.raises(BadRow, match=message):
        HHA.records(row)


def test_a_bad_row_is_an_error_with_file_and_line_or_is_counted(tmp_path):
    folder = reviews(tmp_path / "rows")
    lines = (folder / "train.jsonl").read_text().splitlines()
    lines[6] = json.dumps({"prompt": "Visit 6.", "response": 5})
    (folder / "train.jsonl").write_text("\n".join(lines))
    with pytest.raises(UserError, match=r'train\.jsonl, line 7: field "response": expected text, got 5\.\n.*on_bad_row=skip'):
        data(tmp_path / "out", f"task.path={folder}")
    _, made = data(tmp_path / "out", f"task.path={folder}", "task.on_bad_row=skip")
    assert read_json(made / "counts.json")["train"] == {"rows": 24, "responses": 23, "bad rows skipped": 1}
    assert "train-6-0" not in load_data(made, "train").column("id").to_pylist()


def test_what_is_left_out_is_counted_by_reason(tmp_path):
    rows = [PRO, PRO | {"suffix": ["Here it is:", "No."]}, PRO | {"suffix": ["Yes.", "  "]}]
    for split, word in zip(SPLITS, ("Hi", "Hey", "Ho"), strict=True):
        write_rows(tmp_path / "rows" / f"{split}.jsonl", json.loads(json.dumps(rows).replace("Hi there", word)))
    _, made = data(tmp_path / "out", "task=hha", f"task.path={tmp_path / 'rows'}")
    expected = {"rows": 3, "responses": 3, "rows left out (a response ends in a colon)": 1, "empty responses left out": 1}
    assert read_json(made / "counts.json") == dict.fromkeys(SPLITS, expected)


def test_a_path_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"task\.path=.*nowhere: no such file or folder"):
        LocalSource(str(tmp_path / "nowhere"))


@pytest.mark.parametrize("name", ["validation", "valid", "val", "dev"])
def test_a_validation_file_has_its_usual_names(tmp_path, name):
    for file in ("train", name):
        write_rows(tmp_path / f"{file}.jsonl", [HUB])
    found = LocalSource(str(tmp_path))
    assert {split: file.stem for split, (file,) in found.files.items()} == {"train": "train", "validation": name}
    write_rows(tmp_path / f"{'val' if name == 'dev' else 'dev'}.csv", [HUB])
    with pytest.raises(
        UserError, match=r"found both \w+\.(jsonl|csv) and \w+\.(jsonl|csv)\.\nKeep one file, or one numbered set, per split"
    ):
        LocalSource(str(tmp_path))


def test_a_parquet_file_with_a_column_twice_is_refused(tmp_path):
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["prompt", "prompt"])
    pq.write_table(table, tmp_path / "rows.parquet")
    with pytest.raises(UserError, match=r'there are two columns "prompt"\.\nGive every column its own name'):
        next(LocalSource(str(tmp_path / "rows.parquet")).rows("all"))


def test_a_folder_without_a_train_file_is_refused(tmp_path):
    write_rows(tmp_path / "test.jsonl", [HUB])
    with pytest.raises(UserError, match=r"the folder has no train file\.\nName it train\.jsonl"):
        LocalSource(str(tmp_path))


def test_a_file_of_an_unknown_kind_is_refused(tmp_path):
    (tmp_path / "rows.txt").write_text("Hi\n")
    with pytest.raises(UserError, match=r"unknown file type; expected \.jsonl, \.jsonl\.gz, \.jsonl\.zst, \.json, .*\.parquet"):
        LocalSource(str(tmp_path / "rows.txt"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1}\n\n{"a" 2}\n', r"rows\.jsonl, line 3: not valid JSON: Expecting ':' delimiter at column 6"),
        (b'{"a": 1}\n{"a": "\xff"}\n', r"rows\.jsonl, line 2: byte 7 is not UTF-8\.\nSave the file as UTF-8"),
        (
            gzip.compress(b'{"a": 1}\n', mtime=0),
            r"rows\.jsonl, line 1: the file is not text: it is a gzip file\.\nRename it: .* \.gz",
        ),
        (b"(\xb5/\xfd\x04", r"it is a Zstandard file\.\nRename it: it must end in \.zst"),
        (b"PAR1\xff", r"it is a Parquet file\.\nRename it: it must end in \.parquet"),
        (b'{"a": 1}\n[1, 2]\n', r"rows\.jsonl, line 2: expected a JSON object, got list"),
    ],
)
def test_a_line_that_cannot_be_read_is_named_by_its_number(tmp_path, content, message):
    (tmp_path / "rows.jsonl").write_bytes(content)
    with pytest.raises(UserError, match=message):
        list(LocalSource(str(tmp_path / "rows.jsonl")).rows("all"))


def test_every_kind_of_file_gives_the_same_rows(tmp_path):
    rows = [{"prompt": f"Visit {i}.", "response": 'Good, very "good"; naïve.'} for i in range(5)]
    write_rows(tmp_path / "rows.jsonl", rows)
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress((tmp_path / "rows.jsonl").read_bytes()))
    table = pa.Table.from_pylist(rows)
    import pyarrow.csv
    import pyarrow.parquet

    pyarrow.parquet.write_table(table, tmp_path / "rows.parquet")
    pyarrow.csv.write_csv(table, tmp_path / "rows.csv")
    for suffix in ("jsonl", "jsonl.gz", "csv", "parquet"):
        found = list(LocalSource(str(tmp_path / f"rows.{suffix}")).rows("all"))
        assert [row for _, row in found] == rows, suffix
        assert f"rows.{suffix}, " in found[4][0]
        assert found[4][0].endswith(" 6" if suffix == "csv" else " 5")  # a CSV begins with its header


def test_a_prompt_in_two_splits_is_refused_by_name(tmp_path):
    folder = reviews(tmp_path / "rows")
    with (folder / "test.jsonl").open("a") as stream:
        stream.write(json.dumps({"prompt": "Visit 3 to the train place.", "response": "Otherwise."}) + "\n")
    with pytest.raises(UserError, match='the prompt "Visit 3 to the train place." is in train and in test'):
        data(tmp_path / "out", f"task.path={folder}")


def test_no_two_splits_of_a_made_data_set_share_a_prompt(tmp_path):
    _, made = data(tmp_path / "out", f"task.path={reviews(tmp_path / 'rows')}")
    groups = {split: set(load_data(made, split).column("group").to_pylist()) for split in SPLITS}
    assert {split: len(found) for split, found in groups.items()} == {"train": 24, "validation": 4, "test": 4}
    assert len(set.union(*groups.values())) == 32


def test_one_file_is_split_by_prompt_so_that_splits_are_disjoint_and_cover_all(tmp_path):
    # three responses to each of 400 prompts
    rows = [{"prompt": f"Visit {i // 3}.", "response": f"Good {i}."} for i in range(1200)]
    write_rows(tmp_path / "all.jsonl", rows)
    artifact, made = data(tmp_path / "out", f"task.path={tmp_path / 'all.jsonl'}")
    tables = {split: load_data(made, split) for split in SPLITS}
    responses = [text for table in tables.values() for text in table.column("response").to_pylist()]
    assert Counter(responses) == Counter(" " + row["response"] for row in rows)
    groups = {split: set(table.column("group").to_pylist()) for split, table in tables.items()}
    assert sum(map(len, groups.values())) == len(set.union(*groups.values())) == 400
    for split, found in groups.items():
        assert {prompt_key(f"Visit {i}.") for i in range(400) if artifact.task.split_of(f"Visit {i}.") == split} == found
    assert 330 < len(groups["train"]) < 390
    assert min(map(len, groups.values())) > 5


def test_a_split_that_the_source_lacks_is_taken_from_train_by_prompt(tmp_path):
    write_rows(tmp_path / "rows" / "train.jsonl", [{"prompt": f"Visit {i}.", "response": "Good."} for i in range(200)])
    write_rows(tmp_path / "rows" / "test.jsonl", [{"prompt": "Elsewhere.", "response": "Bad."}])
    artifact, made = data(tmp_path / "out", f"task.path={tmp_path / 'rows'}")
    counts = {split: load_data(made, split).num_rows for split in SPLITS}
    drawn = Counter(artifact.task.split_of(f"Visit {i}.") for i in range(200))
    assert counts == {"train": drawn["train"] + drawn["test"], "validation": drawn["validation"], "test": 1}
    assert counts["validation"] > 0


RAW = pa.table({
    "group": [7, 7, 3, 7, 3, 9],
    "position": [0, 1, 0, 0, 1, 0],
    "stored": [0.1, 0.9, -1.0, 0.5, -2.0, 7.0],
})  # fmt: skip


@pytest.mark.parametrize(
    ("responses", "rows"),
    [
        (Responses.all, [0, 1, 2, 3, 4, 5]),
        (Responses.best, [1, 2, 5]),
        (Responses.worst, [0, 4, 5]),
        (Responses.first, [0, 2, 3, 5]),
    ],
)
def test_responses_are_chosen_as_by_hand(responses, rows):
    assert chosen_rows(RAW, responses).tolist() == rows


def test_the_first_of_equal_responses_is_chosen():
    tied = pa.table({"group": [7, 7], "position": [0, 1], "stored": [0.5, 0.5]})
    assert chosen_rows(tied, Responses.best).tolist() == chosen_rows(tied, Responses.worst).tolist() == [0]


def test_a_choice_by_stored_reward_needs_stored_rewards():
    bare = pa.table({"group": [7], "position": [0], "stored": pa.nulls(1, pa.float64())})
    with pytest.raises(UserError, match=r"task\.responses=best compares stored rewards, but some responses have none"):
        chosen_rows(bare, Responses.best)
    assert chosen_rows(bare, Responses.first).tolist() == [0]


def test_the_same_content_elsewhere_is_the_same_data_and_one_changed_byte_is_not(tmp_path):
    here = reviews(tmp_path / "here")
    there = shutil.copytree(here, tmp_path / "there")
    fingerprints = [Pipeline(composed(f"task.path={folder}")).metrics.fingerprint for folder in (here, there)]
    assert fingerprints[0] == fingerprints[1]
    changed = there / "test.jsonl"
    changed.write_bytes(changed.read_bytes().replace(b"good", b"goad", 1))
    task = composed(f"task.path={there}").task
    assert Data(task).fingerprint != Data(composed(f"task.path={here}").task).fingerprint
    assert Data(task).identity()["content"].keys() == {"train", "validation", "test"}


def test_the_shipped_reviews_are_disjoint_and_without_bad_rows(tmp_path):
    _, made = data(tmp_path, "task=reviews")
    counts = read_json(made / "counts.json")
    assert all(set(found) == {"rows", "responses"} for found in counts.values())
    assert counts["train"]["responses"] > 100


def shipped(split):
    """The rows of one split of the embedded reviews."""
    return [row for _, row in composed("task=reviews").task.source().rows(split)]


def test_the_shipped_reviews_are_the_bytes_that_their_script_writes(tmp_path):
    root = Path(__file__).parents[1]
    script = root / "scripts" / "make_reviews.py"
    subprocess.run([sys.executable, script, "--seed", "0", "--out", tmp_path], check=True)
    for split in SPLITS:
        file = f"{split}.jsonl"
        assert (tmp_path / file).read_bytes() == (root / "aloll_cli" / "data" / "reviews" / file).read_bytes()


def test_the_beginnings_of_the_shipped_reviews_tell_part_of_their_reward_and_leave_part_open():
    words = SentimentIntensityAnalyzer()
    groups = defaultdict(list)
    for row in shipped("train"):
        groups[row["prompt"]].append(words.polarity_scores(row["response"])["compound"])
    several = [rewards for rewards in groups.values() if len(rewards) >= 4]
    assert len(several) > 500
    within = np.mean([np.var(rewards, ddof=1) for rewards in several])
    explained = 1 - within / np.var(np.concatenate(several))
    assert 0.4 < explained < 0.75
    assert np.mean([min(rewards) < 0 < max(rewards) for rewards in several]) > 0.3


def read_or_dropped(row):
    """The records of a row, none where the task leaves it out."""
    try:
        return HHA.records(row)
    except Dropped:
        return []


@pytest.mark.skipif("ALOLL_DATA" not in os.environ, reason="ALOLL_DATA names no folder of data slices")
def test_the_hha_slice_reads_whole_and_without_a_bad_row():
    source = LocalSource(str(Path(os.environ["ALOLL_DATA"]) / "hha"))
    found = {split: [len(read_or_dropped(row)) for _, row in source.rows(split)] for split in SPLITS}
    assert {split: len(responses) for split, responses in found.items()} == {"train": 4490, "validation": 242, "test": 255}
    for responses in found.values():
        assert set(responses) <= {0, 2}
        assert sum(responses) > 2 * 0.9 * len(responses)


def test_bad_rows_stop_by_default():
    assert HHA.on_bad_row is OnBadRow.error


OWN = [{"question": f"Q{i}", "answer": [f"A{i}", f"B{i}"], "score": [i, 1]} for i in range(3)]
NAMED = ("task.columns.prompt=question", "task.columns.response=answer")


def records(row, *options):
    return composed("task=local", "task.path=x", *options).task.records(row)


def test_columns_of_ones_own_hold_several_responses_and_their_rewards():
    found = records(OWN[2], *NAMED, "task.columns.reward=score")
    assert [(r.prompt, r.response, r.reward, r.position) for r in found] == [("Q2", " A2", 2.0, 0), ("Q2", " B2", 1.0, 1)]
    assert [r.reward for r in records(OWN[2], *NAMED)] == [None, None]  # a column called reward need not be there


def test_several_reward_columns_are_one_number_by_mean_or_by_sum():
    row, columns = {"prompt": "Q", "response": "A", "a": 1, "b": "4"}, "task.columns.reward=[a,b]"
    assert [records(row, columns, *more)[0].reward for more in ([], ["task.combine=sum"])] == [2.5, 5.0]


def test_a_column_may_name_the_splits(tmp_path):
    parts = ("train", "val", "test")
    write_rows(tmp_path / "rows.jsonl", [row | {"part": part} for row, part in zip(OWN, parts, strict=True)])
    options = (
        "task=local",
        f"task.path={tmp_path / 'rows.jsonl'}",
        *NAMED,
        "task.columns.reward=score",
        "task.columns.split=part",
    )
    _, made = data(tmp_path / "out", *options)
    assert [load_data(made, split).column("id").to_pylist() for split in SPLITS] == [
        [f"{split}-{row}-{position}" for position in (0, 1)] for row, split in enumerate(SPLITS)
    ]
    assert read_json(made / "counts.json")["all"] == {"rows": 3}


def test_a_refusal_of_prompts_that_two_splits_share_says_how_many_they_are(tmp_path):
    for split, prompts in {"train": "ABCD", "validation": "E", "test": "DAFB"}.items():
        write_rows(tmp_path / f"{split}.jsonl", [{"prompt": prompt, "response": "Yes."} for prompt in prompts])
    with pytest.raises(UserError, match=r'row \d: the prompt "[ABD]" is in train and in test, and so are 2 more\.'):
        data(tmp_path / "out", "task=local", f"task.path={tmp_path}")


def test_a_column_that_names_splits_beside_files_that_do_is_refused(tmp_path):
    for split in SPLITS:
        write_rows(tmp_path / f"{split}.jsonl", [{"prompt": split, "response": "A", "part": split}])
    with pytest.raises(UserError, match=r"task\.columns\.split=part, but task\.path already has one file per split"):
        data(tmp_path / "out", "task=local", f"task.path={tmp_path}", "task.columns.split=part")


def test_a_prompt_that_rows_of_one_file_put_into_two_splits_stays_in_the_first_of_these(tmp_path):
    names = ("test", "train", "val", "test", "val", "train", "val", "test")
    prompts = ("A", "A", "A", "B", "B", "C", "D", "E")
    rows = [{"prompt": p, "response": f"{i}", "part": name} for i, (p, name) in enumerate(zip(prompts, names, strict=True))]
    write_rows(tmp_path / "rows.jsonl", rows)
    options = ("task=local", f"task.path={tmp_path / 'rows.jsonl'}", "task.columns.split=part")
    with pytest.raises(UserError, match=r'row 3: the prompt "A" is in train and in validation'):
        data(tmp_path / "out", *options)
    _, made = data(tmp_path / "out", *options, "task.on_bad_row=skip")
    found = [load_data(made, split).column("response").to_pylist() for split in SPLITS]
    assert found == [[" 1", " 5"], [" 4", " 6"], [" 7"]]
    counts = read_json(made / "counts.json")
    assert counts["test"] == {
        "responses": 1,
        "responses left out (their prompt is in train, too)": 1,
        "responses left out (their prompt is in validation, too)": 1,
    }


def test_a_limit_keeps_whole_prompts_by_their_hash_and_not_by_their_place():
    groups = np.repeat(np.arange(40, dtype=np.uint64), 3)
    kept = limited(groups, 31)
    assert len(kept) == 30
    chosen = {groups[i] for i in kept}
    assert len(chosen) == 10
    assert max(chosen) > 20
    assert {groups[::-1][i] for i in limited(groups[::-1], 31)} == chosen
    assert {groups[i] for i in limited(groups, 60)} > chosen
    assert len(limited(groups, 1)) == 3  # one prompt at least
    assert limited(groups, 10**6).tolist() == list(range(120))


def test_limits_apply_to_the_examples_of_each_split(tmp_path):
    rows = [{"prompt": f"It was {i}.", "response": "Good.", "reward": 0.5} for i in range(200)]
    write_rows(tmp_path / "rows.jsonl", rows)
    settings = composed(
        "task=local", f"task.path={tmp_path / 'rows.jsonl'}", "reward=column", "task.limit=50", "task.limit_eval=3",
        "task.split_shares.validation=0.1", "task.split_shares.test=0.1",
    )  # fmt: skip
    folder = opened(tmp_path / "out", settings.runtime).ensure(Pipeline(settings).examples)
    assert [len(ExampleTable(folder / split)) for split in SPLITS] == [50, 3, 3]


@pytest.mark.slow
def test_rows_that_fill_their_last_chunk_give_a_tokenizer(tmp_path):
    """A train split of 10,000 responses, which are written in chunks of as many."""
    for name, rows in (("train", 10_000), ("validation", 1), ("test", 1)):
        write_rows(tmp_path / f"{name}.jsonl", [{"prompt": f"{name} {i}", "response": "Yes."} for i in range(rows)])
    line = Pipeline(composed("task=local", f"task.path={tmp_path}", "model.vocab_size=300"))
    made = store(tmp_path / "out").ensure(line.tokenizer)
    assert len(read_json(made / "tokenizer.json")["model"]["vocab"]) == 300
