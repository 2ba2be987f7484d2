"""The tasks of the paper but HHA: what their rows become."""

import os
from collections import Counter
from pathlib import Path

import pytest
from tiny import composed, some_slow, store, tokenizer, write_rows

from aloll_cli.artifacts.data import Data
from aloll_cli.artifacts.pipeline import Pipeline
from aloll_cli.artifacts.raw_table import load_data
from aloll_cli.errors import UserError
from aloll_cli.files import read_json
from aloll_cli.rewards.base import Row
from aloll_cli.store.tables import read_blocks
from aloll_cli.tasks.atomic2020 import RELATIONS, as_prompt, sentence
from aloll_cli.tasks.base import SPLITS, BadRow, Dropped, turns
from aloll_cli.tasks.options import Chat
from aloll_cli.tasks.source import LocalSource
from aloll_cli.text.encoding import Encoder


def task(name, *overrides):
    return composed(f"task={name}", *overrides).task


IMDB = {"text": "A long,<br /><br />boring film. Avoid.", "label": 0}
REDDIT = {"parent_text": "Cats or dogs?", "text": "Cats (https://cats.org/a?b=c), www.dogs.org", "parent_score": 2, "score": -7}
TRIPLE = {"head": "PersonX eats", "relation": "xNeed", "tail": "to buy food", "split": "val", "p_valid_model": 0.9}
REFERENCES = {"head": "PersonX eats", "relation": "xNeed", "references": ["to buy food", "to be hungry"], "source": "bart"}
SAID = {"knowledge": "Cats have 18 toes.", "history": ["Hi!", "Hello.", "Tell me of cats!"]}
EDITED = SAID | {"response": "They have 18 toes.", "original_response": "I love them.", "BEGIN": ["Hallucination"]}


@pytest.mark.parametrize(
    ("name", "row", "prompt", "found"),
    [
        ("imdb", IMDB, "A long,", [(" boring film. Avoid.", 0.0)]),
        ("imdb", {"text": "Fine film, this."}, "Fine", [(" film, this.", None)]),
        ("reddit_pos", REDDIT, "Cats or dogs?\n", [("Cats (<URL>), <URL>", -7.0)]),
        ("reddit_neg", REDDIT, "Cats or dogs?\n", [("Cats (<URL>), <URL>", -7.0)]),
        ("comet", TRIPLE, "<head>PersonX eats</head> <relation>xNeed</relation> [GEN] ", [("to buy food", 0.9)]),
        ("comet", REFERENCES, as_prompt("PersonX eats", "xNeed"), [("to buy food", None), ("to be hungry", None)]),
        ("faithdial", EDITED, "Knowledge: Cats have 18 toes.\nHi!\nHello.\nTell me of cats!\n", [("They have 18 toes.", 1.0)]),
        ("wow", EDITED, "Knowledge: Cats have 18 toes.\nHi!\nHello.\nTell me of cats!\n", [("I love them.", 0.0)]),
        ("faithdial_wow", EDITED | {"history": []}, "Knowledge: Cats have 18 toes.\n",
         [("They have 18 toes.", 1.0), ("I love them.", 0.0)]),
        ("wow", EDITED | {"original_response": None, "BEGIN": []}, None, [("They have 18 toes.", None)]),
        ("wow", EDITED | {"original_response": None, "BEGIN": ["Generic"]}, None, [("They have 18 toes.", 1.0)]),
        ("wow", EDITED | {"original_response": None}, None, [("They have 18 toes.", 0.0)]),
        ("wow", EDITED | {"BEGIN": ["Entailment", "Uncooperative"]}, None, [("I love them.", 1.0)]),
        ("wow", EDITED | {"BEGIN": ["Generic"]}, None, [("I love them.", None)]),
        ("faithdial", SAID | {"response": "18.", "faithful": 0, "BEGIN": ["Entailment"]}, None, [("18.", 0.0)]),
        ("faithdial", SAID | {"response": "18.", "faithful": None, "BEGIN": ["Entailment"]}, None, [("18.", None)]),
    ],
)  # fmt: skip
def test_a_row_becomes_its_prompt_and_responses_with_what_is_stored(name, row, prompt, found):
    records = task(name).records(row)
    assert [(r.response, r.reward) for r in records] == found
    assert [r.position for r in records] == list(range(len(found)))
    if prompt is not None:
        assert {r.prompt for r in records} == {prompt}


@pytest.mark.parametrize(
    ("name", "row", "reason"),
    [
        ("imdb", {"text": "Avoid."}, "fewer than two words"),
        ("reddit_pos", REDDIT | {"text": "word " * 101}, "more than 100 words"),
        ("reddit_neg", REDDIT | {"parent_text": "word " * 101}, "more than 100 words"),
        ("reddit_pos", REDDIT | {"text": "[deleted]"}, "deleted or removed"),
        ("reddit_pos", REDDIT | {"parent_text": " "}, "a reply to nothing"),
        ("comet", REFERENCES | {"references": []}, "no tail"),
    ],
)
def test_rows_are_left_out_by_a_reason_that_is_counted(name, row, reason):
    with pytest.raises(Dropped, match=reason):
        task(name).records(row)


def test_limits_and_relations_are_options():
    assert task("reddit_pos", "task.max_words=101").records(REDDIT | {"text": "word " * 101})
    assert task("comet", "task.relations=[xNeed]").records(TRIPLE)
    with pytest.raises(Dropped, match="another relation"):
        task("comet", "task.relations=[xWant]").records(TRIPLE)
    assert task("comet", "task.reward_column=label").records(TRIPLE | {"label": 1})[0].reward == 1


@pytest.mark.parametrize(
    ("name", "row", "message"),
    [
        ("imdb", {"label": 1}, """field "text" is missing; the row has the fields 'label'"""),
        ("imdb", IMDB | {"label": "pos"}, """field "label": expected a number, got 'pos'"""),
        ("reddit_pos", {"text": "a", "parent_text": "b"}, 'field "score" is missing; expected a number'),
        ("reddit_neg", REDDIT | {"score": None}, 'field "score": expected a number, got None'),
        (
            "comet",
            TRIPLE | {"relation": "xneed"},
            r"""field "relation": expected a relation of ATOMIC 2020 \(xNeed, .*, got 'xneed'""",
        ),
        ("comet", TRIPLE | {"split": "dev2"}, """field "split": expected one of train, .*, got 'dev2'"""),
        ("comet", REFERENCES | {"references": "to eat"}, """field "references": expected a list of texts, got 'to eat'"""),
        ("wow", EDITED | {"history": "Hi!"}, """field "history": expected a list of texts, got 'Hi!'"""),
        ("wow", {"knowledge": "k", "response": "r"}, 'field "history": expected a list of texts, got None'),
        ("faithdial", EDITED | {"knowledge": None}, 'field "knowledge": expected text, got None'),
    ],
)
def test_a_bad_row_names_the_field_and_what_is_needed(name, row, message):
    with pytest.raises(BadRow, match=message):
        task(name).records(row)


def test_the_knowledge_stays_the_oldest_turns_give_way_whole_and_ends_are_marked():
    (record,) = task("faithdial").records(EDITED)
    parts = [vars(part) for part in record.parts]
    assert [turn["role"] for turn in turns(parts)] == ["system", "user", "assistant", "user"]
    pieces = [tokenizer()(p["prefix"] + p["text"], add_special_tokens=False)["input_ids"] + [2] for p in parts]
    first, *history = pieces
    whole = 1 + sum(map(len, pieces))

    def shown(limit):
        return Encoder(tokenizer(), limit, 10, Chat.plain).prompts([parts])[0].ids

    assert shown(whole) == [1, *first, *history[0], *history[1], *history[2]]
    assert shown(whole - 1) == [1, *first, *history[1], *history[2]]
    assert shown(1 + len(first) + len(history[2])) == [1, *first, *history[2]]
    assert shown(1 + len(first) + 3) == [1, *first, *history[2][-3:]]


def test_the_training_split_learns_from_what_its_task_says_and_validation_and_test_are_shared(tmp_path):
    for split in SPLITS:
        rows = [REDDIT | {"parent_text": f"{split} {i}?", "score": score} for i, score in enumerate((-7, -6, 0, 65, 66, 300))]
        write_rows(tmp_path / "rows" / f"{split}.jsonl", rows)
    scores = {}
    for name in ("reddit_pos", "reddit_neg"):
        line = Pipeline(composed(f"task={name}", f"task.path={tmp_path / 'rows'}"))
        opened = store(tmp_path / "out" / name)
        folder = opened.ensure(line.examples)
        scores[name] = [read_blocks(folder / split, ["stored"]).column("stored").to_pylist() for split in SPLITS]
        assert load_data(opened.path(line.data), "train").num_rows == 6  # what rewards are fitted on
    everything = [-7, -6, 0, 65, 66, 300]
    assert scores == {"reddit_pos": [[66, 300], everything, everything], "reddit_neg": [[-7, -6], everything, everything]}


def test_rows_of_one_file_go_to_the_split_that_they_name(tmp_path):
    names = ["train"] * 5 + ["val"] * 3 + ["test"] * 2
    write_rows(tmp_path / "atomic.jsonl", [TRIPLE | {"head": f"PersonX {i}", "split": name} for i, name in enumerate(names)])
    made = store(tmp_path / "out").ensure(Data(task("comet", f"task.path={tmp_path / 'atomic.jsonl'}")))
    counts = read_json(made / "counts.json")
    assert [counts[split]["responses"] for split in SPLITS] == [5, 3, 2]


def test_a_prompt_of_two_splits_is_left_out_of_the_later_one_where_bad_rows_are_skipped(tmp_path):
    for split in SPLITS:
        write_rows(tmp_path / f"{split}.jsonl", [IMDB, IMDB | {"text": f"{split} has this alone."}])
    with pytest.raises(UserError, match=r"is in train and in validation\.\n.*task\.on_bad_row=skip"):
        store(tmp_path / "out").ensure(Data(task("imdb", f"task.path={tmp_path}")))
    made = store(tmp_path / "out").ensure(Data(task("imdb", f"task.path={tmp_path}", "task.on_bad_row=skip")))
    counts = read_json(made / "counts.json")
    assert counts["train"] == {"rows": 2, "responses": 2}
    left_out = "responses left out (their prompt is in train, too)"
    assert counts["validation"] == counts["test"] == {"rows": 2, left_out: 1, "responses": 1}
    prompts = {row["parts"][0]["text"] for split in SPLITS for row in load_data(made, split).to_pylist()}
    assert sum(load_data(made, split).num_rows for split in SPLITS) == len(prompts) == 4


@pytest.mark.parametrize(
    ("relation", "tail", "text"),
    [
        ("xNeed", "to buy food.", "{x} eats {y}'s soup. Before that, {x} needed to buy food."),
        ("xIntent", "taste it", "{x} eats {y}'s soup, because {x} wanted to taste it."),
        ("xAttr", "greedy", "{x} eats {y}'s soup. {x} is seen as greedy."),
        ("HinderedBy", "PersonY's dog bites personx.", "{x} eats {y}'s soup. What can hinder that: {y}'s dog bites {x}."),
        ("oReact", "sad", "{x} eats {y}'s soup. As a result, others feel sad."),
    ],
)
def test_a_triple_reads_as_a_sentence_with_two_names(relation, tail, text):
    found = sentence(as_prompt("PersonX eats PersonY's soup", relation), tail, "0")
    x, y = found.split()[0], found.split()[2].removesuffix("'s")
    assert x != y
    assert found == text.format(x=x, y=y)


def test_names_are_the_same_for_every_tail_of_a_prompt_and_differ_between_prompts():
    def name(key, tail="to eat"):
        return sentence(as_prompt("PersonX cooks", "xNeed"), tail, key).split()[0]

    assert name("a") == name("a", "to buy food")
    assert len({name(str(i)) for i in range(100)}) > 8


def test_every_relation_has_words_and_what_is_no_triple_stays_as_it_is():
    assert len(RELATIONS) == 23
    for relation in RELATIONS:
        found = sentence(as_prompt("PersonX cooks", relation), "t", "0")
        assert "Person" not in found
        assert "<" not in found
    assert Row("1", "0", "Fine", " film.").sentence == "Fine film."
    assert Row("1", "0", as_prompt("rice", "ObjectUse"), "cook.").sentence == "Rice can be used to cook."


NEEDS_DATA = pytest.mark.skipif("ALOLL_DATA" not in os.environ, reason="ALOLL_DATA names no folder of data slices")


@NEEDS_DATA
@pytest.mark.parametrize(
    ("name", "folder", "rows", "left_out", "learned"),
    some_slow(
        [
            ("imdb", "imdb", 3367, {}, 1684),
            ("comet", "commonsense", 40639, {}, 40639),
            ("reddit_pos", "reddit", 3932, {"more than 100 words": 1531}, 10),
            ("reddit_neg", "reddit", 3932, {"more than 100 words": 1531}, 36),
            ("wow", "knowledge_dialogue", 10270, {}, 10270),
            ("faithdial", "knowledge_dialogue", 10270, {}, 1898),
            ("faithdial_wow", "knowledge_dialogue", 10270, {}, 10270),
        ]
    ),
)
def test_a_slice_reads_whole_and_without_a_bad_row(name, folder, rows, left_out, learned):
    read, dropped, chosen = task(name), Counter(), 0
    source = LocalSource(str(Path(os.environ["ALOLL_DATA"]) / folder))
    lo, hi = (read.min_reward, read.max_reward)
    for _, row in source.rows("train"):
        try:
            (record,) = read.records(row)
        except Dropped as reason:
            dropped[str(reason)] += 1
            continue
        known = record.reward is not None
        bounds = [known and record.reward >= lo] if lo is not None else []
        bounds += [known and record.reward <= hi] if hi is not None else []
        chosen += all(bounds)
    assert sum(1 for _ in source.rows("train")) == rows
    assert dropped == left_out
    assert chosen == learned


@pytest.mark.parametrize(
    "name", some_slow(["hha", "imdb", "comet", "reddit_pos", "reddit_neg", "wow", "faithdial", "faithdial_wow"])
)
def test_a_preset_of_the_paper_has_its_numbers(name):
    s = composed(f"experiment=paper_{name}", *(["model.path=FOLDER", "reward.path=FOLDER"] if name == "comet" else []))
    lengths = {"hha": (640, 128), "comet": (512, 30), "wow": (400, 128), "faithdial": (400, 128), "faithdial_wow": (400, 128)}
    assert (s.task.max_prompt_tokens, s.task.max_response_tokens) == lengths.get(name, (512, 128))
    assert (s.batch_size, s.updates, s.epochs) == (16, None, 1 if name in ("hha", "comet") else 3)
    top = {"imdb": 2.0, "hha": 1.0, "comet": 1.0}.get(name, 5.0 if name.startswith("reddit") else 4.0)
    assert (s.reward.range, s.optimizer.warmup_updates) == ((0.0, top), 0)
    if name == "hha":
        assert (s.optimizer.lr, s.optimizer.schedule.name, s.optimizer.max_grad_norm, s.seed) == (2e-4, "constant", 0.3, 901)
        assert (s.optimizer.eps, s.optimizer.betas, s.optimizer.paged) == (1e-6, [0.9, 0.999], True)
        assert (s.values.lr, s.values.epochs, s.values.batch_size, s.generation.sequences) == (1e-5, 10, 16, 1)
        assert s.test_reward.path != s.reward.path
        return
    assert (s.optimizer.lr, s.optimizer.schedule.name, s.optimizer.max_grad_norm) == (2e-5, "linear", 1.0)
    assert s.optimizer.weight_decay == 0.01
    assert (s.values.lr, s.values.epochs, s.values.batch_size) == (2e-5, 5, 32)
    assert (s.generation.beams, s.generation.repetition_penalty) == (2, 2.5)
    if name != "comet":
        assert (s.reference.epochs, s.reference.batch_size, s.reference.optimizer.lr) == (6, 16, 2e-5)


def test_another_variant_and_other_values_go_with_a_preset():
    s = composed("experiment=paper_imdb", "variant=nll", "values=constant", "generation=greedy")
    assert s.epochs == 3
