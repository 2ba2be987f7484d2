"""``aloll generate`` and ``aloll chat``: a policy tried on prompts of a split or of one's own."""

import io
import json
import signal
import sys
from dataclasses import replace

import numpy as np
import pytest
from chats import qwen3
from tiny import composed, opened, outspoken, reviews, write_rows

from aloll_cli import UserError, compose, run
from aloll_cli.artifacts.generations import Generations, load_generations
from aloll_cli.artifacts.pipeline import Pipeline
from aloll_cli.artifacts.speaker import Speaker
from aloll_cli.cli.quoting import literal, with_quotes
from aloll_cli.models.decoding import Greedy
from aloll_cli.runtime.options import Upstream
from aloll_cli.runtime.terminal import results
from aloll_cli.settings.choices import Split
from aloll_cli.stages import chat
from aloll_cli.stages.chat import Cut
from aloll_cli.tasks.hha import SYSTEM
from aloll_cli.text.typed import asked_in, conversation


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tried")
    reviews(folder / "rows", train=4)
    outspoken(folder / "model", seed=0)
    outspoken(folder / "other", seed=1)
    qwen3(folder / "chat")
    return folder


@pytest.fixture
def settings(place, monkeypatch):
    """The settings of a command in a folder with models, which trains nothing."""
    monkeypatch.chdir(place)

    def of(*words, model="model", **options):
        base = composed(
            "model=pretrained", f"model.path={place / model}", "reference=pretrained", f"task.path={place / 'rows'}", "threads=1",
            "task.max_response_tokens=6", "task.max_prompt_tokens=48", *words,
        )  # fmt: skip
        return replace(base, **options)

    return of


@pytest.mark.slow
def test_prompts_of_ones_own_get_scored_responses_which_depend_on_nothing_else(settings):
    prompts = ["We went, and", "it's (not) [bad] ${here}"]
    several = run("generate", settings(policy="model", prompt=prompts, samples=2))
    assert [row["prompt"] for row in several] == [prompts[0]] * 2 + [prompts[1]] * 2
    assert several[0]["response"] != several[1]["response"]
    assert all(0 <= row["reward"] <= 1 for row in several)
    (alone,) = run("generate", settings(policy="model", prompt=prompts[1], score=False))
    assert alone == {"prompt": prompts[1], "response": several[2]["response"], "ended": several[2]["ended"]}
    (longer,) = run("generate", settings(policy="model", prompt=prompts[1], max_tokens=12))
    assert longer["response"].startswith(alone["response"])


@pytest.mark.slow
def test_the_first_prompts_of_a_split_get_the_responses_of_its_artifact_and_task_local_reads_them_back(settings, place):
    whole = run("generate", settings(policy="reference", split=Split.train, samples=2, to="rows.jsonl"))
    assert len(whole) == 8
    assert run("generate", settings(policy="reference", split=Split.train, samples=2, first=3)) == whole[:6]
    assert len(list(place.glob("outputs/reviews/generations/*"))) == 1
    # rows to train on are not the samples that V(x) may come from: those have the same seed and decoding
    line = Pipeline(settings(policy="reference"))
    other = Generations(line.reference, line.examples, "train", replace(line.settings.generation, samples=2))
    folder = opened(place / "outputs" / "reviews", line.settings.runtime).ensure(other)
    sampled = load_generations(folder).column("response").to_pylist()
    assert np.mean([one["response"] == two for one, two in zip(whole, sampled, strict=True)]) < 0.5
    task = replace(composed("task=local", "task.path=x.jsonl", "task.seam=none").task, path=str(place / "rows.jsonl"))
    read = [record for _, row in task.source().rows("all") for record in task.records(row)]
    assert [(r.prompt, r.response, r.reward) for r in read] == [(r["prompt"], r["response"], r["reward"]) for r in whole]
    with pytest.raises(UserError, match=r"to=rows\.jsonl exists, and is not overwritten"):
        run("generate", settings(policy="reference", to="rows.jsonl"))


@pytest.mark.slow
def test_the_reference_stands_beside_the_policy(settings, capsys):
    found = run("generate", settings(policy="other", side_by_side=True, first=2))
    assert [row["side"] for row in found] == ["policy", "reference"] * 2
    assert found[0]["prompt"] == found[1]["prompt"] != found[2]["prompt"]
    assert found[0]["response"] != found[1]["response"]
    said = capsys.readouterr().out
    assert said.count("prompt  ") == 2
    assert f"mean reward (vader) of 2 responses: policy {(found[0]['reward'] + found[2]['reward']) / 2:.3f}, reference" in said


def test_rows_of_chats_hold_their_turns_and_files_and_stdin_give_prompts(settings, place, monkeypatch):
    chats = [{"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi!"}]}, {"prompt": "Once"}]
    write_rows(place / "asked.txt", chats)
    found = run("generate", settings(policy="chat", prompts="asked.txt", score=False))
    assert found[0]["messages"] == chats[0]["messages"]
    assert found[1]["messages"] == [{"role": "user", "content": "Once"}]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"Once\n\nTwice, perhaps\n")))
    lines = run("generate", settings(policy="chat", prompts="-", score=False))
    assert [row["messages"][0]["content"] for row in lines] == ["Once", "Twice, perhaps"]
    assert lines[0] == found[1]
    (plain,) = run("generate", settings("task.chat=plain", policy="chat", prompt="Once", score=False))
    assert plain["prompt"] == "Once"
    assert plain["response"] != lines[0]["response"]


def asked(file, task, *rows):
    """The prompts of a file of rows: text, or roles and texts."""
    write_rows(file, rows)
    return [
        [(part.role, part.text) for part in parts] if parts[0].role else "".join(part.prefix + part.text for part in parts)
        for parts in asked_in(str(file), task)
    ]


TIDE = [("user", "What is the tide?"), ("assistant", "")]
BRIEF, USER, ANSWER = (
    {"role": role, "content": text}
    for role, text in (("system", "Be brief."), ("user", "What is the tide?"), ("assistant", "It is high."))
)
READ = {
    "a system text": ({"prompt": "What is the tide?", "system": "Be brief."}, [("system", "Be brief."), *TIDE]),
    "turns as JSON": ({"prompt": json.dumps([USER])}, TIDE),
    "JSON that is no turns": ({"prompt": '[{"from": "Paris"}]'}, '[{"from": "Paris"}]'),
    "ShareGPT": ({"conversations": [{"from": "human", "value": "What is the tide?"}]}, TIDE),
    "Alpaca": ({"instruction": "Translate.", "input": "The tide is high.", "output": ""}, "Translate.\n\nThe tide is high."),
    "an instruction alone": ({"instruction": "Say when."}, "Say when."),
    "a whole chat": ({"messages": [BRIEF, USER, ANSWER]}, [("system", "Be brief."), *TIDE]),
    "a pair": ({"prompt": "The tide is", "chosen": "high.", "rejected": "odd."}, "The tide is"),
    "a pair of whole chats": ({"chosen": [USER, ANSWER], "rejected": [USER, ANSWER]}, TIDE),
    "a completion": ({"prompt": [USER], "completion": [ANSWER]}, TIDE),
    "a response": ({"prompt": "The tide is", "response": "high.", "reward": 1}, "The tide is"),
}


@pytest.mark.parametrize("name", READ)
def test_rows_of_prompts_are_read_as_rows_to_train_on(tmp_path, name):
    row, expected = READ[name]
    task = composed("task=local", "task.path=x.jsonl").task
    assert asked(tmp_path / "asked.jsonl", task, row) == [expected]


def test_prompts_stand_in_the_columns_of_the_task_or_in_those_that_generate_writes(tmp_path):
    task = composed("task=local", "task.path=x.jsonl", "task.columns.prompt=question").task
    rows = [{"question": "The tide is", "prompt": "not read"}, {"prompt": "Once"}, {"messages": [USER]}]
    assert asked(tmp_path / "asked.jsonl", task, *rows) == ["The tide is", "Once", TIDE]


def test_a_system_text_beside_a_prompt_replaces_that_of_hha(tmp_path):
    found = asked(tmp_path / "asked.jsonl", composed("task=hha").task, {"prompt": "What is the tide?", "system": "Be brief."})
    assert found == [[("system", "Be brief."), *TIDE]]


def test_a_line_of_text_is_a_prompt_as_it_stands(tmp_path):
    (tmp_path / "asked.txt").write_text(f"{json.dumps([USER])}\n")
    (parts,) = asked_in(str(tmp_path / "asked.txt"), composed("task=local", "task.path=x.jsonl").task)
    assert [(part.role, part.text) for part in parts] == [(None, json.dumps([USER]))]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "a", "images": ["a.png"]}, 'line 1: field "images" is set, which is not read'),
        ({"prompt": "a", "messages": [USER]}, 'line 1: fields "prompt" and "messages" are both set'),
        ({"text": "a"}, "line 1: field \"prompt\" is missing; the row has the fields 'text'"),
        ({"prompt": 3}, 'line 1: field "prompt": expected text, got 3'),
        ({"prompt": [BRIEF | {"content": "Be long."}, USER], "system": "Be brief."}, "line 1: .*different system texts"),
    ],
)
def test_rows_that_hold_no_prompt_are_refused_by_name(tmp_path, row, message):
    with pytest.raises(UserError, match=message):
        asked(tmp_path / "asked.jsonl", composed("task=local", "task.path=x.jsonl").task, row)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"prompt": "a", "prompts": "b"}, r"prompt= and prompts= are both set"),
        ({"prompt": ""}, r"prompt= is empty"),
        ({"prompts": "nowhere.txt"}, r"there is no such file"),
        (
            {"prompt": "a", "generation": Greedy(repetition_penalty=1.0), "samples": 2},
            r"greedy gives one response",
        ),
        ({"to": "rows.txt"}, r"files that end in \.jsonl"),
        ({"to": "no/rows.jsonl"}, r"there is no folder no"),
        ({"policy": "reference", "side_by_side": True}, r"both are the reference"),
        ({"policy": "nowhere", "prompt": "a"}, r"there is no such folder"),
        ({"policy": "model", "prompt": "a", "max_tokens": 500}, r"the model reads 128 tokens at most"),
        ({"prompt": "a", "upstream": Upstream.require}, r"is missing, and upstream=require does not build it"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(settings, options, said):
    with pytest.raises(UserError, match=said):
        run("generate", settings(**options))


def test_prompts_are_taken_as_they_are_typed():
    texts = ["Hi, you", "it's", 'say "no"', "a\\", "${x} \\${y}", "[1] is a note", "{x}", "a=b", "two\nlines", " lead"]
    assert [with_quotes([f"prompt={text}"]) for text in texts] == [[f"prompt={literal(text)}"] for text in texts]
    assert compose(f"prompt={literal(texts)}").prompt == texts
    assert with_quotes(["prompt=['a, b','c']", "prompt=null"]) == ["prompt=['a, b','c']", "prompt=null"]
    lists = {"prompt=[a b,c]": "prompt=['a b','c']", "plugins=mine": "plugins=['mine']", "where=[a=b]": "where=['a=b']"}
    assert with_quotes([*lists]) == [*lists.values()]


def test_a_dialogue_of_hha_has_its_own_tags():
    task = composed("task=hha").task
    parts = conversation([{"role": "user", "content": "Hi!"}], task)
    assert [(part.role, part.text) for part in parts] == [("system", SYSTEM), ("user", "Hi!"), ("assistant", "")]
    assert "".join(part.prefix + part.text for part in parts) == f"{SYSTEM}\n### Human: Hi! ### Assistant:"
    assert tuple(task.asked("Hi!")) == tuple(parts)


def talk(monkeypatch, settings, *lines):
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
    out = io.StringIO()
    monkeypatch.setattr(results, "_file", out)  # its property file would stay set
    run("chat", settings)
    return out.getvalue().splitlines()


@pytest.mark.slow
def test_a_chat_goes_on_until_it_is_reset_and_repeats_itself(settings, monkeypatch):
    asked = []
    respond = Speaker.respond

    def noted(self, questions, generation):
        asked.append(questions[0].turns)
        return respond(self, questions, generation)

    monkeypatch.setattr(Speaker, "respond", noted)
    of_chat = settings("generation=greedy", policy="chat")
    talk(monkeypatch, of_chat, "Hi!", "And?", "/reset", "Hi!", "/help", "/quit", "not read")
    assert [[turn["role"] for turn in turns] for turns in asked] == [
        ["user", "assistant"], ["user", "assistant", "user", "assistant"], ["user", "assistant"],
    ]  # fmt: skip
    assert asked[0] == asked[2]
    assert asked[1][0]["content"] == "Hi!"
    first = talk(monkeypatch, settings(policy="chat", side_by_side=True, model="chat"), "Hi!")
    assert first[0] == "policy:"
    assert first.index("reference:") > 0


def test_ctrl_c_stops_a_response_and_not_the_chat(settings, monkeypatch):
    respond, count = Speaker.respond, []

    def interrupted(self, questions, generation):
        count.append(1)
        if len(count) == 1:
            signal.raise_signal(signal.SIGINT)
        return respond(self, questions, generation)

    monkeypatch.setattr(Speaker, "respond", interrupted)
    lines = talk(monkeypatch, settings(policy="chat"), "Hi!", "Again!")
    assert len(count) == 2
    assert lines
    assert issubclass(Cut, Exception)
    assert chat.COMMANDS.startswith("/reset")


def test_a_model_without_a_format_for_chats_is_refused(settings):
    with pytest.raises(UserError, match=r"the tokenizer of the policy has no chat template, and prompts of task=reviews are no"):
        run("chat", settings(policy="model"))
