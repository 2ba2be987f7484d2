"""The forms in which people have scored responses: each row by row, from files of every kind, and to the end of a run."""

import gzip
import json
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from running import SMALL, quick
from tiny import composed, some_slow, store, write_rows

from aloll_cli.artifacts.data import Data
from aloll_cli.errors import UserError
from aloll_cli.tasks.base import BadRow, Dropped, turns
from aloll_cli.tasks.forms import SCORES
from aloll_cli.tasks.selection import within
from aloll_cli.tasks.source import LocalSource


def task(*overrides):
    return composed("task=local", "task.path=rows.jsonl", *overrides).task


def read(row, *overrides):
    """Prompt (text, or roles and texts), response and reward of each record of a row."""
    records = task(*overrides).records(row)
    chats = [record.parts[0].role is not None for record in records]
    prompts = [
        [(turn["role"], turn["content"]) for turn in turns([vars(part) for part in record.parts])] if chat else record.prompt
        for record, chat in zip(records, chats, strict=True)
    ]
    return [(prompt, record.response, record.reward) for prompt, record in zip(prompts, records, strict=True)]


ASKED = [("user", "What is the tide?"), ("assistant", "")]
USER, ANSWER, OTHER = ({"role": role, "content": text} for role, text in (
    ("user", "What is the tide?"), ("assistant", "It is high."), ("assistant", "No idea."),
))  # fmt: skip
PART = {"type": "text"}
HUMAN, GPT = {"from": "human", "value": "What is the tide?"}, {"from": "gpt", "value": "It is high."}
BRIEF = {"from": "system", "value": "Be brief."}
SYSTEM, AGAIN = {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Really?"}
BRIEFLY, TWICE = ("system", "Be brief."), [*ASKED[:1], ("assistant", "No idea."), ("user", "Really?"), ("assistant", "")]
FLIGHTS, ROLES = '[{"from": "Paris", "to": "Rome"}]', '[{"role": "engineer", "name": "Bo"}]'
CHATS = {"chosen": [USER, ANSWER], "rejected": [USER, OTHER]}
FORMS = {  # a row of each form, and its records
    "a text": ({"prompt": "The tide is", "response": "high.", "reward": 1}, [("The tide is", " high.", 1.0)]),
    "several": ({"prompt": "The tide is", "response": ["high.", "low."], "reward": [1, 0]},
                [("The tide is", " high.", 1.0), ("The tide is", " low.", 0.0)]),
    "openai": ({"messages": [USER, ANSWER], "reward": 1}, [(ASKED, "It is high.", 1.0)]),
    "openai, a response of its own": ({"messages": [USER], "response": "It is high."}, [(ASKED, "It is high.", None)]),
    "openai, parts": ({"messages": [{"role": "user", "content": [PART | {"text": "What is "}, PART | {"text": "the tide?"}]},
                                    {"role": "assistant", "content": [PART | {"text": "It is high."}]}]},
                      [(ASKED, "It is high.", None)]),
    "openai, developer": ({"messages": [{"role": "developer", "content": "Be brief."}, USER, ANSWER]},
                          [([("system", "Be brief."), *ASKED], "It is high.", None)]),
    "sharegpt": ({"conversations": [BRIEF, HUMAN, GPT], "reward": 1},
                 [([("system", "Be brief."), *ASKED], "It is high.", 1.0)]),
    "sharegpt, singular": ({"conversation": [HUMAN, GPT]}, [(ASKED, "It is high.", None)]),
    "sharegpt, openai's turns": ({"conversations": [USER, ANSWER]}, [(ASKED, "It is high.", None)]),
    "pair": ({"prompt": "The tide is", "chosen": "high.", "rejected": "odd."},
             [("The tide is", " high.", 1.0), ("The tide is", " odd.", 0.0)]),
    "pair with scores": ({"prompt": "The tide is", "chosen": "high.", "rejected": "odd.",
                          "score_chosen": 4.5, "score_rejected": 2},
                         [("The tide is", " high.", 4.5), ("The tide is", " odd.", 2.0)]),
    "pair of turns": ({"prompt": [USER], "chosen": [ANSWER], "rejected": [OTHER]},
                      [(ASKED, "It is high.", 1.0), (ASKED, "No idea.", 0.0)]),
    "pair of whole chats": ({"chosen": [USER, ANSWER], "rejected": [USER, OTHER]},
                            [(ASKED, "It is high.", 1.0), (ASKED, "No idea.", 0.0)]),
    "pair of whole chats with their prompt as text": (
        {"prompt": "What is the tide? ", "chosen": [USER, ANSWER], "rejected": [USER, OTHER],
         "chosen_rating": 5, "rejected_rating": 1},
        [(ASKED, "It is high.", 5.0), (ASKED, "No idea.", 1.0)]),
    "completion": ({"prompt": "The tide is", "completion": "high."}, [("The tide is", " high.", None)]),
    "completion with a label": ({"prompt": "The tide is", "completion": "high.", "label": True},
                                [("The tide is", " high.", 1.0)]),
    "completion with a bad label": ({"prompt": "The tide is", "completion": "odd.", "label": False},
                                    [("The tide is", " odd.", 0.0)]),
    "completion of turns": ({"prompt": [USER], "completion": [ANSWER], "label": True}, [(ASKED, "It is high.", 1.0)]),
    "pair beside its chat, as UltraFeedback has it": (
        {"prompt": "What is the tide?", "messages": [USER, ANSWER], "chosen": [USER, ANSWER], "rejected": [USER, OTHER],
         "score_chosen": 8, "score_rejected": 3}, [(ASKED, "It is high.", 8.0), (ASKED, "No idea.", 3.0)]),
    "pair after turns of ShareGPT": (
        {"conversations": [HUMAN], "system": "Be brief.", "chosen": GPT, "rejected": {"from": "gpt", "value": "No idea."}},
        [([("system", "Be brief."), *ASKED], "It is high.", 1.0), ([("system", "Be brief."), *ASKED], "No idea.", 0.0)]),
    "openai, keys and speakers as others write them": (
        {"messages": [{"role": "Developer", "value": "Be brief."}, {"from": "Human ", "content": "What is the tide?"},
                      {"role": "model", "text": "It is high.", "weight": 1}], "reward": 1},
        [([("system", "Be brief."), *ASKED], "It is high.", 1.0)]),
    "openai, the system text beside the turns": ({"system": "Be brief.", "messages": [USER, ANSWER]},
                                                 [([("system", "Be brief."), *ASKED], "It is high.", None)]),
    "openai, no system text beside the turns": ({"system": None, "messages": [USER, ANSWER]}, [(ASKED, "It is high.", None)]),
    "openai, turns as JSON, as in CSV": ({"messages": json.dumps([USER, ANSWER]), "reward": "0.5"},
                                         [(ASKED, "It is high.", 0.5)]),
    "pair of turns as JSON": ({"prompt": json.dumps([USER]), "chosen": json.dumps([ANSWER]), "rejected": json.dumps([OTHER])},
                              [(ASKED, "It is high.", 1.0), (ASKED, "No idea.", 0.0)]),
    "pair with a system text": (
        {"system": "Be brief.", "prompt": "What is the tide?", "chosen": "It is high.", "rejected": "No idea."},
        [([("system", "Be brief."), *ASKED], "It is high.", 1.0), ([("system", "Be brief."), *ASKED], "No idea.", 0.0)]),
    "pair of an instruction": ({"instruction": "Say when.", "input": "The tide", "chosen": "At six.", "rejected": "No."},
                               [("Say when.\n\nThe tide", " At six.", 1.0), ("Say when.\n\nThe tide", " No.", 0.0)]),
    "instruction with a blank input": ({"instruction": "Say when.", "input": " ", "output": "At six."},
                                       [("Say when.", " At six.", None)]),
    "instruction after earlier turns": (
        {"instruction": "What is the tide?", "input": "", "output": "It is high.", "system": "Be brief.",
         "history": [["Is it six?", "Yes."]]},
        [([("system", "Be brief."), ("user", "Is it six?"), ("assistant", "Yes."), *ASKED], "It is high.", None)]),
    "text that begins like a list": ({"prompt": "[1, 2] and", "response": "[3]"}, [("[1, 2] and", " [3]", None)]),
    "pair of whole chats of ShareGPT": ({"chosen": [HUMAN, GPT], "rejected": [HUMAN, GPT | {"value": "No idea."}]},
                                        [(ASKED, "It is high.", 1.0), (ASKED, "No idea.", 0.0)]),
    "pair with rewards of its own": ({"prompt": "The tide is", "chosen": "high.", "rejected": "odd.", "reward": [0.75, 0.5]},
                                     [("The tide is", " high.", 0.75), ("The tide is", " odd.", 0.5)]),
    "openai's preferences": (
        {"input": {"messages": [USER], "tools": []}, "preferred_output": [ANSWER], "non_preferred_output": [OTHER]},
        [(ASKED, "It is high.", 1.0), (ASKED, "No idea.", 0.0)]),
    "alpaca": ({"instruction": "Translate.", "input": "The tide is high.", "output": "La marée est haute."},
               [("Translate.\n\nThe tide is high.", " La marée est haute.", None)]),
    "alpaca without input": ({"instruction": "Name the tide.", "input": "", "output": "High.", "reward": 1},
                             [("Name the tide.", " High.", 1.0)]),
    "sharegpt with its system apart": ({"system": "Be brief.", "conversations": [HUMAN, GPT]},
                                       [([("system", "Be brief."), *ASKED], "It is high.", None)]),
    "pair of whole chats after their prompt": (
        {"prompt": [USER], "chosen": [OTHER, AGAIN, ANSWER], "rejected": [OTHER, AGAIN, OTHER]},
        [(TWICE, "It is high.", 1.0), (TWICE, "No idea.", 0.0)]),
    "pair of whole chats after their prompt as text, beside the whole": (
        {"prompt": "What is the tide?", "messages": [USER, OTHER, AGAIN, ANSWER], "system": "Be brief.",
         "chosen": [OTHER, AGAIN, ANSWER], "rejected": [OTHER, AGAIN, OTHER]},
        [([BRIEFLY, *TWICE], "It is high.", 1.0), ([BRIEFLY, *TWICE], "No idea.", 0.0)]),
    "pair of whole chats after a system turn": (
        {"prompt": [SYSTEM], "chosen": [USER, ANSWER], "rejected": [USER, OTHER]},
        [([BRIEFLY, *ASKED], "It is high.", 1.0), ([BRIEFLY, *ASKED], "No idea.", 0.0)]),
    "pair of whole chats with their prompt and its system turn": (
        {"prompt": [SYSTEM, USER], "chosen": [USER, ANSWER], "rejected": [USER, OTHER]},
        [([BRIEFLY, *ASKED], "It is high.", 1.0), ([BRIEFLY, *ASKED], "No idea.", 0.0)]),
    "pair of whole chats with their last question": (
        {"prompt": "Really?", "chosen": [USER, OTHER, AGAIN, ANSWER], "rejected": [USER, OTHER, AGAIN, OTHER]},
        [(TWICE, "It is high.", 1.0), (TWICE, "No idea.", 0.0)]),
    "pair of whole chats whose turns have ids and parts": (
        {"chosen": [USER | {"id": "a"}, ANSWER],
         "rejected": [{"role": "user", "content": [PART | {"text": "What is the tide?"}], "id": "b"}, OTHER]},
        [(ASKED, "It is high.", 1.0), (ASKED, "No idea.", 0.0)]),
    "pair of whole chats of an instruction": (
        {"instruction": "What is the tide?", "conversation": "c-17", "chosen": [USER, ANSWER], "rejected": [USER, OTHER]},
        [(ASKED, "It is high.", 1.0), (ASKED, "No idea.", 0.0)]),
    "pair beside its chat and its prompt as turns": (
        {"prompt": [USER], "messages": [USER, ANSWER], "chosen": [ANSWER], "rejected": [OTHER]},
        [(ASKED, "It is high.", 1.0), (ASKED, "No idea.", 0.0)]),
    "a text with a system text": ({"system": "Be brief.", "prompt": "What is the tide?", "response": "It is high."},
                                  [([BRIEFLY, *ASKED], "It is high.", None)]),
    "turns with a system text": ({"system": "Be brief.", "prompt": [USER], "response": ["It is high.", "No idea."]},
                                 [([BRIEFLY, *ASKED], "It is high.", None), ([BRIEFLY, *ASKED], "No idea.", None)]),
    "turns of the assistant as response": ({"prompt": [USER], "response": [ANSWER]}, [(ASKED, "It is high.", None)]),
    "a response that is JSON": ({"prompt": "As JSON:", "response": FLIGHTS}, [("As JSON:", f" {FLIGHTS}", None)]),
    "a pair that is JSON": ({"prompt": ROLES, "chosen": FLIGHTS, "rejected": ROLES},
                            [(ROLES, f" {FLIGHTS}", 1.0), (ROLES, f" {ROLES}", 0.0)]),
    "a completion that is JSON": ({"prompt": "As JSON:", "completion": FLIGHTS}, [("As JSON:", f" {FLIGHTS}", None)]),
    "an output that is JSON": ({"instruction": "As JSON:", "output": FLIGHTS}, [("As JSON:", f" {FLIGHTS}", None)]),
    "a text with the id of its conversation": ({"prompt": "The tide is", "response": "high.", "conversation": "c-17"},
                                               [("The tide is", " high.", None)]),
    "an instruction with the number of its conversation": ({"instruction": "Say when.", "output": "At six.", "conversation": 17},
                                                           [("Say when.", " At six.", None)]),
    "alpaca with a response": ({"instruction": "Translate.", "input": "The tide is high.", "response": "La marée est haute."},
                               [("Translate.\n\nThe tide is high.", " La marée est haute.", None)]),
    "dolly": ({"instruction": "Say when.", "context": "The tide", "response": "At six.", "category": "qa"},
              [("Say when.\n\nThe tide", " At six.", None)]),
    "a text beside no images": ({"prompt": "The tide is", "response": "high.", "images": [], "image": None, "audio": ""},
                                [("The tide is", " high.", None)]),
    "turns as prompt": ({"prompt": [USER], "response": "It is high.", "reward": 1}, [(ASKED, "It is high.", 1.0)]),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_every_public_form_gives_its_prompt_responses_and_rewards(form):
    row, expected = FORMS[form]
    assert read(row) == expected


COLUMNS = {*(name for row, _ in FORMS.values() for name in row), *(name for pair in SCORES for name in pair)}  # of all forms


@pytest.mark.parametrize("form", FORMS)
def test_a_row_of_a_table_with_the_columns_of_all_forms_is_read_as_without_them(form):
    row, expected = FORMS[form]
    padded = dict.fromkeys(sorted(COLUMNS)) | row
    assert read(padded) == expected
    assert all_told(padded, "task.seam=none") == all_told(row, "task.seam=none")


@pytest.mark.parametrize("nothing", [None, "", " "])
def test_where_nothing_rates_a_pair_its_responses_have_the_rewards_1_and_0(nothing):
    row = FORMS["pair"][0] | {"reward": nothing, "score_chosen": nothing, "score_rejected": nothing}
    assert read(row) == FORMS["pair"][1]
    assert told(row) == ["rows are read as pairs (chosen and rejected) with rewards 1 and 0"]
    assert read(row | {"safe": nothing}, "task.columns.reward=safe") == FORMS["pair"][1]
    rated = row | {"chosen_rating": "4.5", "rejected_rating": "2"}
    assert read(rated) == FORMS["pair with scores"][1]
    completion = {"prompt": "The tide is", "completion": "high.", "reward": nothing, "label": True}
    assert read(completion) == [("The tide is", " high.", 1.0)]
    assert read(completion | {"label": nothing})[0][2] is None


@pytest.mark.parametrize(
    ("row", "overrides", "message"),
    [
        ({"messages": [USER, {"role": "assistant", "content": None, "tool_calls": [{"id": "a"}]}]}, (), "turn 2: calls a tool"),
        ({"messages": [USER, {"role": "tool", "content": "high"}, ANSWER]}, (), "turn 2: is of the role 'tool'"),
        ({"messages": [USER, {"role": "ipython", "content": "high"}, ANSWER]}, (), "turn 2: is of the role 'tool'"),
        ({"messages": [USER, {"role": "Function", "content": "high"}, ANSWER]}, (), "turn 2: is of the role 'function'"),
        ({"messages": [USER, {"role": "assistant", "content": None}]}, (), r"turn 2: expected \"content\" to be text, got None"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, ANSWER]}, (),
         "turn 1: expected parts of the type \"text\", got the type 'image_url'"),
        ({"conversations": [HUMAN, {"from": "function_call", "value": "{}"}, GPT]}, (), "turn 2: is of the role 'tool'"),
        ({"conversations": [{"from": "narrator", "value": "Once"}]}, (), "turn 1: expected \"from\" to be one of human, "),
        ({"chosen": "yes", "rejected": "no"}, (), "field \"prompt\" is missing; the row has the fields 'chosen, rejected'"),
        ({"chosen": [USER, OTHER, USER], "rejected": [USER, OTHER, ANSWER]}, (), 'field "chosen": expected text, or one turn of'),
        ({"prompt": "a", "response": "b", "chosen": "b", "rejected": "c"}, (),
         'fields "response", "chosen" and "rejected" are all set; expected a response or a pair'),
        ({"chosen": [USER, ANSWER], "rejected": [USER, ANSWER, USER, OTHER]}, (), "differ in their last turn only"),
        ({"chosen": [ANSWER], "rejected": [OTHER]}, (), "field \"prompt\" is missing"),
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, ("task.columns.response=chosen",),
         'the rows are pairs, and task.columns.response=chosen would leave out their "rejected"'),
        ({"prompt": "a", "completion": [USER, ANSWER]}, (), "expected text, or one turn of the assistant"),
        ({"prompt": "a", "completion": ["b", "c"], "label": [1]}, (),
         r'field "label": expected 2 numbers, one for each of "completion", got \[1\]'),
        ({"prompt": "a", "completion": ["b", "c"], "label": 1}, ("task.columns.response='my reply'", "task.columns.reward=score"),
         'field "label": expected 2 numbers, one for each of "completion", got 1'),
        ({"prompt": "a", "completion": "b", "label": "odd"}, (), 'field "label": expected a number'),
        ({"prompt": "a", "chosen": "b", "rejected": None}, (), 'field "rejected": expected text or turns, as in the other'),
        ({"prompt": "a", "chosen": "b", "rejected": "c", "score_chosen": 0.9, "score_rejected": None}, (),
         'field "score_rejected": expected a number, as for the other response of the pair, got None'),
        ({"prompt": "a", "chosen": "b", "rejected": "c", "rating_chosen": " ", "rating_rejected": "2"}, (),
         "field \"rating_chosen\": expected a number, as for the other response of the pair, got ' '"),
        ({"prompt": "a", "chosen": "b", "rejected": "c", "safe": [None, 0.2]}, ("task.columns.reward=safe",),
         'field "safe": expected a number, as for the other response of the pair, got None'),
        ({"messages": [USER, ANSWER | {"reasoning_content": "It rose."}]}, (), 'turn 2: has thoughts in "reasoning_content"'),
        ({"prompt": [USER], "chosen": [ANSWER | {"thinking": "It rose."}], "rejected": [OTHER]}, (),
         'field "chosen", turn 1: has thoughts in "thinking"'),
        ({"messages": [USER, {"role": "Narrator", "content": "It is high."}]}, (), "turn 2: expected \"role\" to be one of"),
        ({"conversations": [HUMAN, GPT, HUMAN]}, (), 'field "conversations" ends with a turn of the user, and there is no'),
        ({"conversations": ["Hi!", "Hello."]}, (), 'field "conversations", turn 1: expected {"role": …, "content": …}'),
        ({"messages": str([USER, ANSWER])}, (), "expected a list of turns, got what Python prints of turns"),
        ({"prompt": "a", "chosen": str([ANSWER]), "rejected": "b"}, (), 'field "chosen": expected a list of turns, got what'),
        ({"system": "Be long.", "messages": [{"role": "system", "content": "Be brief."}, USER, ANSWER]}, (),
         'field "system" and the first turn are different system texts'),
        (CHATS | {"prompt": "Other"}, (),
         "field \"prompt\" does not match the chats in \"chosen\": it says 'Other', and they begin with 'What is the tide\\?'"),
        (CHATS | {"messages": [AGAIN, ANSWER]}, (), 'field "messages" does not match the chats in "chosen"'),
        (CHATS | {"messages": [USER, AGAIN]}, (), 'field "messages" does not match the chats in "chosen"'),
        (CHATS | {"conversations": [AGAIN, ANSWER]}, (), 'field "conversations" does not match the chats in "chosen"'),
        (CHATS | {"instruction": "Other"}, (), 'field "instruction" does not match the chats in "chosen"'),
        (CHATS | {"system": "Be long.", "prompt": [SYSTEM]}, (),
         "field \"system\" and the first turn are different system texts; expected one of them, got 'Be long.' and 'Be brief.'"),
        ({"prompt": [SYSTEM | {"content": "Be long."}, USER],
          "chosen": [SYSTEM, USER, ANSWER], "rejected": [SYSTEM, USER, OTHER]}, (),
         "it says 'Be long.', and they begin with 'Be brief.'"),
        ({"prompt": "Really?", "chosen": [OTHER, AGAIN, ANSWER], "rejected": [OTHER, AGAIN, OTHER]}, (),
         "'Really\\?' may repeat the same turn of the chats, or go before them"),
        ({"chosen": [USER, OTHER, AGAIN, ANSWER], "rejected": [USER, ANSWER, AGAIN, ANSWER]}, (),
         "differ in their last turn only"),
        ({"prompt": [USER], "messages": [AGAIN], "response": "b"}, (), 'fields "prompt" and "messages" are both set'),
        ({"prompt": [USER], "messages": [AGAIN], "chosen": "b", "rejected": "c"}, (),
         'fields "prompt" and "messages" are both set'),
        ({"prompt": "Other", "conversations": [HUMAN, GPT], "system": "Be brief."}, (),
         'fields "prompt" and "conversations" are both set'),
        ({"input": {"messages": [USER]}, "prompt": [AGAIN], "preferred_output": [ANSWER], "non_preferred_output": [OTHER]}, (),
         'fields "prompt" and "messages" are both set'),
        ({"input": {"messages": [USER]}, "messages": [AGAIN], "preferred_output": [ANSWER], "non_preferred_output": [OTHER]}, (),
         'fields "input" and "messages" are both set'),
        ({"instruction": "a", "output": "b", "response": "c"}, (), 'fields "output" and "response" are both set'),
        ({"system": "Be long.", "prompt": [SYSTEM, USER], "response": "b"}, (), "different system texts"),
        ({"messages": [USER | {"images": ["a"]}, ANSWER]}, (), 'field "messages", turn 1: has "images", which is not read'),
        ({"messages": [USER, ANSWER | {"audio": {"id": "a"}}]}, (), 'field "messages", turn 2: has "audio", which is not read'),
        ({"conversations": [HUMAN | {"video": "a.mp4"}, GPT]}, (), 'field "conversations", turn 1: has "video"'),
        ({"prompt": "a", "response": "b", "images": ["a.png"]}, (), 'field "images" is set, which is not read'),
        (CHATS | {"image": {"bytes": b"a", "path": None}}, (), 'field "image" is set, which is not read'),
        ({"messages": [USER, ANSWER | {"thought": "It rose."}]}, (), 'turn 2: has thoughts in "thought"'),
        ({"messages": [USER, ANSWER | {"reasoning_details": [{"text": "It rose."}]}]}, (), 'has thoughts in "reasoning_details"'),
        ({"messages": [USER, ANSWER | {"weight": 0.5}]}, (),
         r'turn 2: expected "weight" to be 0 or 1, or false or true, got 0\.5'),
        ({"conversations": [HUMAN, GPT | {"loss": "much"}]}, (), "turn 2: expected \"loss\" to be 0 or 1, .*, got 'much'"),
        ({"conversations": "c-17", "reward": 1}, (), "field \"conversations\": expected a list of turns, got 'c-17'"),
        ({"instruction": "a", "output": "b", "history": ["c"]}, (), r"expected a list of \[question, answer\]"),
    ],
)  # fmt: skip
def test_what_is_no_form_is_refused_by_name(row, overrides, message):
    with pytest.raises(BadRow, match=message):
        read(row, *overrides)


@pytest.mark.parametrize("key", ["weight", "train", "training", "loss", "train_on_turn", "loss_weight"])
@pytest.mark.parametrize("no", [0, 0.0, False, "0", "0.0", "False", " no "])
def test_a_last_turn_that_is_marked_as_not_to_be_trained_is_left_out(key, no):
    mark = {key: no}
    rows = {
        "openai": {"messages": [USER, ANSWER | mark]}, "sharegpt": {"conversations": [HUMAN, GPT | mark]},
        "pair": {"prompt": [USER], "chosen": [ANSWER | mark], "rejected": [OTHER]},
    }  # fmt: skip
    for row in rows.values():
        with pytest.raises(Dropped, match="their last turn is marked as not to be trained"):
            read(row)
    assert read({"messages": [USER, OTHER | mark, USER, ANSWER]})[0][1] == "It is high."


@pytest.mark.parametrize("yes", [1, 1.0, True, "1", "true", None, "", float("nan")])
def test_a_last_turn_that_is_marked_as_to_be_trained_is_read(yes):
    assert read({"conversations": [HUMAN, GPT | {"weight": yes, "train": yes}]}) == [(ASKED, "It is high.", None)]


@pytest.mark.parametrize(
    ("row", "overrides", "hint"),
    [
        ({"Question": "a", "answers": "b", "id": 3}, (),
         "Name them: task.columns.prompt=Question task.columns.response=answers, or"),
        ({"query": "a", "output": "b", "stars": 3}, (),
         "Name them: task.columns.prompt=query task.columns.response=output task.columns.reward=stars, or"),
        ({"prompt": "a", "reply": "b", "id": 3}, (), "Name it: task.columns.response=reply, or"),
        ({"prompt": "a", "b": "b", "c": 3}, (), "Name it: task.columns.response=COLUMN (columns that are read: prompt and"),
        ({"b": "b", "c": 3}, (), "Name them: task.columns.prompt=COLUMN task.columns.response=COLUMN (columns that are read:"),
        ({"instruction": "a", "input": "b", "answer": "c"}, (), "Name it: task.columns.response=answer, or"),
        ({"dialog": [USER, ANSWER], "id": 3}, (), "Name the turns: task.columns.messages=dialog, or"),
        ({"question": "a", "chosen": "b", "rejected": "c"}, (), "Name it: task.columns.prompt=question. For the rows of HH-RLHF"),
        ({"data": [{"prompt": "a", "response": "b"}]}, (), "If the rows are the list in data, write only that list to a file"),
        ({"train": [{"prompt": "a"}], "test": [{"prompt": "b"}]}, (), "If the rows are the list in train or test, write only"),
        ({"prompt": "a", "response": "b", "rating": 3, "id": 3}, ("task.columns.reward=score",),
         "Name it: task.columns.reward=rating"),
    ],
)  # fmt: skip
def test_rows_of_other_columns_are_refused_with_what_to_type(row, overrides, hint):
    with pytest.raises(BadRow, match=rf"is missing; the row has the fields '{', '.join(row)}'") as found:
        read(row, *overrides)
    assert found.value.hint.startswith(hint)


def test_a_pair_and_a_completion_have_their_prompt_in_the_column_that_the_user_names():
    assert read({"question": "a", "chosen": "b", "rejected": "c"}, "task.columns.prompt=question") == [
        ("a", " b", 1.0), ("a", " c", 0.0),
    ]  # fmt: skip
    assert read({"question": "a", "completion": "b"}, "task.columns.prompt=question") == [("a", " b", None)]
    assert read({"prompt": "a", "reply": "b", "chosen": "c", "rejected": "d"}, "task.columns.response=reply") == [
        ("a", " b", None)
    ]


@pytest.mark.parametrize(
    ("stored", "labels", "reward"),
    some_slow([
        (True, None, 1.0), (False, None, 0.0), ("True", None, 1.0), ("false", None, 0.0), ("0.25", None, 0.25),
        (" 1e-1 ", None, 0.1), (Decimal("0.5"), None, 0.5), ("up", "{up: 1, down: 0}", 1.0), ("3", "{up: 1}", 3.0),
        (True, "{true: -1, false: 1}", -1.0), ("False", "{true: -1, false: 1}", 1.0), (2, "{1: 0, 2: 0.5}", 0.5),
        ("2", "{2: 0.5}", 0.5), ("2.0", "['1: 0','2: 0.5']", 0.5), (2.0, "{2: 0.5}", 0.5), (2, "{2.0: 0.5}", 0.5),
        ("+2e0", "['2.00: 0.5']", 0.5), (Decimal("2.00"), "{2: 0.5}", 0.5), ("1234567.0", "{1234567: 0.5}", 0.5),
        (1234567.0, "['1234567: 0.5']", 0.5), (0.1, "['.10: 0.5']", 0.5), (-0.0, "{0: 0.5}", 0.5), ("1", "{up: 1, 1.0: 0}", 0.0),
        ("n/a", "{1: 0, n/a: 0.5}", 0.5), (float("nan"), "{nan: 0.5}", 0.5),
        ("👎", "['👍: 1','👎: -1']", -1.0), (None, None, None), ("", None, None), (" ", "{1: 0, 2: 0.5}", None),
        (None, "{None: 1}", None),
    ]),
)  # fmt: skip
def test_a_reward_is_a_number_a_boolean_or_a_label(stored, labels, reward):
    overrides = () if labels is None else (f"task.labels={labels}",)
    assert read({"prompt": "a", "response": "b", "reward": stored}, *overrides)[0][2] == reward


@pytest.mark.parametrize("stored", [4, 4.0, "4.0", "four", True, "true", "n/a", 1.5, 2**70, float("nan")])
def test_where_labels_are_numbers_no_other_cell_is_taken_for_one(stored):
    with pytest.raises(BadRow, match='field "reward": expected one of the labels 1, 2, 3, got ') as found:
        read({"prompt": "a", "response": "b", "reward": stored}, "task.labels={1: 0, 2: 0.5, 3: 1}")
    assert ("task.labels" in found.value.hint) == (str(stored) not in ("n/a", "nan"))


@pytest.mark.parametrize("word", ["yes", "No", "on", " off"])
def test_labels_that_yaml_reads_as_booleans_are_to_be_quoted(word):
    local = replace(task(), labels=yaml.safe_load("{yes: 1, no: 0}"))
    with pytest.raises(BadRow, match=f"expected one of the labels true, false, got '{word}'") as found:
        local.records({"prompt": "a", "response": "b", "reward": word})
    assert "Quote the labels in the YAML file: {'yes': 1, 'no': 0}" in found.value.hint
    quoted = replace(task(), labels=yaml.safe_load("{'yes': 1, 'no': 0}"))
    assert quoted.records({"prompt": "a", "response": "b", "reward": "no"})[0].reward == 0.0


@pytest.mark.parametrize("stored", [1, "0", 0.0])
def test_a_number_is_no_boolean_where_those_have_a_worth(stored):
    with pytest.raises(BadRow, match="expected one of the labels true, false, got "):
        read({"prompt": "a", "response": "b", "reward": stored}, "task.labels={true: 0, false: 1}")


@pytest.mark.slow
def test_a_label_has_one_worth_however_it_is_written():
    assert task("task.labels=['1: 0.5','1.0: 0.5']").labels == {"1": 0.5}
    with pytest.raises(UserError, match=r"task\.labels: 1 has two worths, 0 and 0\.5"):
        task("task.labels=['1: 0','1.0: 0.5']")


@pytest.mark.parametrize(
    ("stored", "hint"),
    [
        ("👎", "such as \"task.labels=['👎: 1']\", or"), ("up", 'such as "task.labels={up: 1}", or'),
        ("1_000", "numbers like 0.5"),
        ("48%", "numbers like 0.5"), ("٣", "numbers like 0.5"), ("0,5", "numbers like 0.5"),
        ("None", "write null or, in CSV, an empty cell"), ("N/A", "write null"), (float("nan"), "write null"),
        ("inf", "Leave such rows out"),
    ],
)  # fmt: skip
def test_a_text_that_is_no_number_is_refused_and_labels_are_proposed(stored, hint):
    with pytest.raises(BadRow, match='field "reward": expected a (finite )?number, got') as found:
        read({"prompt": "a", "response": "b", "reward": stored})
    assert hint in found.value.hint


@pytest.mark.parametrize(
    ("prompt", "response", "joined"),
    some_slow(
        [
            ("def area():\n", "    return", "def area():\n    return"),
            ("The lamp is ", "green.", "The lamp is green."),
            ("Q: 2 + 2 =\nA:", " 4", "Q: 2 + 2 =\nA: 4"),
            ("The lamp is", "green.", "The lamp is green."),
            ("今天天气", "很好。", "今天天气很好。"),
            ("今日は", "iPhone です", "今日はiPhone です"),
            ("Answer: 42", "是的", "Answer: 42是的"),
            ("你好。", "Hello.", "你好。Hello."),
            ("コーヒー", "OK", "コーヒーOK"),
            ("สวัสดี", "OK", "สวัสดีOK"),
            ("안녕", "그래", "안녕 그래"),
            ("The tide is 🙂", "high.", "The tide is 🙂 high."),
            ("", "Alone.", "Alone."),
        ]
    ),
)
def test_nothing_stands_between_texts_that_have_white_space_or_need_none(prompt, response, joined, tmp_path):
    english = tmp_path / "rows.jsonl"
    write_rows(english, [{"prompt": "The lamp is", "response": "green."}] * 3)
    (record,) = task(f"task.path={english}").records({"prompt": prompt, "response": response})
    assert record.prompt + record.response == joined
    forced = {
        seam: task(f"task.path={english}", f"task.seam={seam}").records({"prompt": prompt, "response": response})[0]
        for seam in ("space", "none")
    }
    assert {seam: found.prompt + found.response for seam, found in forced.items()} == {
        "space": f"{prompt} {response}", "none": prompt + response,
    }  # fmt: skip


def test_the_script_of_the_data_decides_where_the_letters_at_the_seam_do_not(tmp_path):
    chinese = tmp_path / "rows.jsonl"
    write_rows(chinese, [{"prompt": "今天天气很好", "response": "是的"}] * 3)
    mine = task(f"task.path={chinese}")
    joined = [record.prompt + record.response for prompt, response in (("3 + 4 =", "7"), ("Three is", "odd."))
              for record in mine.records({"prompt": prompt, "response": response})]  # fmt: skip
    assert joined == ["3 + 4 =7", "Three is odd."]


def told(*rows, overrides=()):
    """What is said of how rows were read, once all of them were."""
    reading = task(*overrides).reading()
    for row in rows:
        reading.records(row, "train")
    return reading.told()


def test_how_rows_are_read_is_told():
    pair, other = FORMS["pair"][0], FORMS["a text"][0]
    ultra = FORMS["pair beside its chat, as UltraFeedback has it"][0] | {"prompt_id": 3, "source\n": "x"}
    assert told(pair) == ["rows are read as pairs (chosen and rejected) with rewards 1 and 0"]
    assert told(FORMS["sharegpt"][0]) == ["rows are read as ShareGPT (conversations with from and value)"]
    assert told(FORMS["openai"][0]) == told(other) == []
    assert told(ultra) == [
        "rows are read as pairs of whole chats (chosen and rejected) with score_chosen and score_rejected as rewards",
        "columns that are not read: prompt_id, source\\n",
    ]
    assert told(FORMS["completion of turns"][0]) == ["rows are read as completions (prompt and completion) with label as reward"]
    assert told(other, *[pair] * 3) == [
        "rows are read as pairs (chosen and rejected) with rewards 1 and 0 (3 of 4 rows)",
        "rows are read as the columns of task=local (1 of 4 rows)",
    ]


def test_columns_that_are_not_read_are_told_also_where_the_first_row_has_none():
    row = FORMS["a text"][0]
    assert told(row, *[row | {"extra": "Be rude."}] * 79) == ["columns that are not read: extra (79 of 80 rows)"]
    assert told(row | {"id": 1, "": 2}, row | {"id": 1, "note": None}) == ['columns that are not read: id, "" (1 of 2 rows)']
    many = told(*(row | {f"column {i}": 1} for i in range(3000)))
    assert len(many) == 1
    assert len(many[0]) < 250


def test_rows_that_are_not_read_count_for_nothing():
    reading = task().reading()
    with pytest.raises(BadRow):
        reading.records({"prompt": "a", "extra": 1}, "train")
    assert reading.told() == []


def test_what_is_kept_of_many_rows_of_many_shapes_does_not_grow():
    reading = task("task.seam=none").reading()
    for i in range(3000):
        reading.records(FORMS["a text"][0] | {f"column {i}": 1}, "train")
    assert max(map(len, (reading._known, reading._unread))) == 1000


def test_what_stands_between_prompt_and_response_is_told(tmp_path):
    file = tmp_path / "rows.jsonl"
    write_rows(file, [FORMS["pair"][0]])
    local = task(f"task.path={file}")
    between = "between the first prompt and its response {} is added (task.seam=auto)"
    assert local.describe(FORMS["pair"][0]) == [between.format("a space")]
    assert local.describe({"prompt": "2 + 2 =", "response": " 4"}) == [between.format("nothing")]
    assert local.describe(FORMS["sharegpt"][0]) == local.describe(FORMS["openai"][0]) == []


def pairs(inverted, equal, others, first="score_chosen", second="score_rejected"):
    """Pairs with scores of which some contradict their names."""
    scores = [(1, 5)] * inverted + [(2, 2)] * equal + [(5, 1)] * others
    return [
        {"prompt": f"Visit {i}.", "chosen": "Good.", "rejected": "Bad.", first: chosen, second: rejected}
        for i, (chosen, rejected) in enumerate(scores)
    ]


def doubts(rows, *overrides):
    """The warnings of rows, and how they were read."""
    reading = task(*overrides).reading()
    for row in rows:
        reading.records(row, "train")
    return reading.warnings(lambda split: f"{split}.jsonl"), reading.told()[1:]


def test_scores_against_the_names_of_a_pair_are_counted_and_warned_of():
    assert doubts(pairs(0, 0, 4)) == ([], [])
    assert doubts([FORMS["pair"][0]] * 3) == ([], [])
    assert doubts([row | {"score_chosen": None, "score_rejected": None} for row in pairs(3, 0, 0)]) == ([], [])
    warnings, lines = doubts(pairs(0, 3, 2))
    assert warnings == []
    assert lines == [
        "train: by score_chosen and score_rejected, chosen is below rejected in 0 of 5 pairs, and equal in 3, "
        "which say nothing of which response is better"
    ]
    warnings, lines = doubts(pairs(2, 1, 1))
    inverted = "by score_chosen and score_rejected, rejected is better than chosen in 2 of 4 rows"
    assert warnings == [f"train.jsonl: {inverted}; training follows these numbers"]
    assert "chosen is below rejected in 2 of 4 pairs, and equal in 1," in lines[0]


@pytest.mark.parametrize("columns", [("score_chosen", "score_rejected"), ("rejected_rating", "chosen_rating")])
def test_scores_that_say_the_reverse_of_most_pairs_are_refused(columns):
    first, second = columns
    rows = pairs(3, 0, 2) if first == "score_chosen" else pairs(2, 0, 3, *columns)  # swapped
    reverse = r"train\.jsonl: the scores say the reverse of chosen and rejected in 3 of 5 rows \(\w+ and \w+\)\."
    with pytest.raises(UserError, match=rf"{reverse}\n.*drop or rename these columns to use 1 and 0"):
        doubts(rows)


def test_rewards_of_a_column_that_is_named_are_followed_with_a_warning():
    rows = [{"prompt": "a", "chosen": "b", "rejected": "c", "safe": [0, 1]}] * 3
    warnings, _ = doubts(rows, "task.columns.reward=safe")
    assert warnings == ["train.jsonl: by safe, rejected is better than chosen in 3 of 3 rows; training follows these numbers"]


@pytest.mark.parametrize("policy", ["error", "skip"])
def test_data_of_reversed_scores_are_not_built(policy, tmp_path):
    write_rows(tmp_path / "rows.jsonl", pairs(80, 0, 0) + [{"prompt": "a", "chosen": "b", "rejected": "c"}])
    with pytest.raises(UserError, match=r"rows\.jsonl: the scores say the reverse of chosen and rejected in 80 of 80 rows"):
        store(tmp_path / "out").ensure(Data(task(f"task.path={tmp_path}/rows.jsonl", f"task.on_bad_row={policy}")))


def test_what_was_read_is_kept_for_inspect(tmp_path, capsys):
    write_rows(tmp_path / "rows.jsonl", [row | {"extra": 1} for row in pairs(10, 0, 90)])
    data = Data(task(f"task.path={tmp_path}/rows.jsonl"))
    made = store(tmp_path / "out").ensure(data)
    said = capsys.readouterr().err
    assert "rows.jsonl: by score_chosen and score_rejected, rejected is better than chosen in 10 of 100 rows" in said
    lines = data.reading(made)
    assert lines[0] == "rows are read as pairs (chosen and rejected) with score_chosen and score_rejected as rewards"
    assert lines[1] == "columns that are not read: extra"
    assert lines[2].startswith("all: by score_chosen and score_rejected, chosen is below rejected in 10 of 100 pairs, ")
    assert lines[3].startswith("between the first prompt and its response a space is added")
    assert all(line in said for line in lines)


def all_told(row, *overrides):
    """What is said of a file of such a row."""
    reading = task(*overrides).reading()
    reading.records(row, "all")
    return [*reading.told(), *task(*overrides).describe(row)]


def test_what_is_not_read_of_a_row_is_told():
    named = {"name": "Ann", "id": 3, "weight": 1, "tags": []}
    assert all_told({"messages": [USER | named, ANSWER | {"ts": None}], "system": "Be brief.", "tools": [{"name": "f"}]}) == [
        "columns that are not read: tools",
        'the column "system" is the system turn of each prompt',
        "keys of turns that are not read: id, name",
        "warning: tools are not read: the model will not see their descriptions in the prompts",
    ]
    assert all_told({"conversations": [HUMAN | {"text": "Other"}, GPT], "conversation": "c-17"}) == [
        "rows are read as ShareGPT (conversations with from and value)",
        "columns that are not read: conversation",
        "keys of turns that are not read: text",
    ]
    assert all_told(CHATS | {"chosen": json.dumps([USER | {"id": 3}, ANSWER | {"score": 4}])})[1:] == [
        "keys of turns that are not read: id, score",
    ]  # fmt: skip
    openais = FORMS["openai's preferences"][0]
    assert all_told(openais) == ["rows are read as pairs (preferred_output and non_preferred_output) with rewards 1 and 0"]
    told = all_told(openais | {"input": {"messages": [USER | {"name": "Ann"}], "tools": [{"name": "f"}]}})
    assert [line.partition(":")[0] for line in told[1:]] == ["keys of turns that are not read", "warning"]


def test_an_instruction_is_told_with_the_columns_that_it_has():
    assert all_told(FORMS["dolly"][0])[:2] == [
        "rows are read as Alpaca (instruction, context and response)", "columns that are not read: category",
    ]  # fmt: skip
    assert all_told(FORMS["alpaca"][0] | {"prompt": "Translate."})[:2] == [
        "rows are read as Alpaca (instruction, input and output)", "columns that are not read: prompt",
    ]  # fmt: skip


ROWS = [{"prompt": f"Visit {i}.", "response": 'Good, very "good"; naïve.', "reward": 0.5} for i in range(5)]


def test_a_json_array_is_read_like_lines_whatever_its_name(tmp_path):
    (tmp_path / "array.json").write_text(json.dumps(ROWS))
    (tmp_path / "bom.json").write_bytes(b"\xef\xbb\xbf  " + json.dumps(ROWS, indent=1).encode())
    (tmp_path / "packed.json.gz").write_bytes(gzip.compress(json.dumps(ROWS).encode()))
    write_rows(tmp_path / "lines.json", ROWS)
    for name in ("array.json", "bom.json", "packed.json.gz", "lines.json"):
        assert [row for _, row in LocalSource(str(tmp_path / name)).rows("all")] == ROWS
    (tmp_path / "broken.json").write_text('[{"a": 1},\n{"a" 2}]')
    with pytest.raises(UserError, match=r"broken\.json: not valid JSON: .* at line 2, column 6"):
        list(LocalSource(str(tmp_path / "broken.json")).rows("all"))
    (tmp_path / "numbers.json").write_text("[1]")
    with pytest.raises(UserError, match=r"numbers\.json, row 1: expected a JSON object, got int"):
        list(LocalSource(str(tmp_path / "numbers.json")).rows("all"))


def test_a_key_that_occurs_twice_is_refused_and_not_read_once(tmp_path):
    (tmp_path / "lines.jsonl").write_text('{"prompt": "a", "response": "b"}\n{"prompt": "a", "prompt": "b", "response": "c"}\n')
    with pytest.raises(UserError, match=r'lines\.jsonl, line 2: .* an object has the key "prompt" twice'):
        list(LocalSource(str(tmp_path / "lines.jsonl")).rows("all"))
    (tmp_path / "array.json").write_text('[{"messages": [{"role": "user", "role": "assistant"}]}]')
    with pytest.raises(UserError, match='an object has the key "role" twice'):
        list(LocalSource(str(tmp_path / "array.json")).rows("all"))


def test_zstandard_files_are_read_and_torn_ones_are_refused(tmp_path):
    packed = pa.Codec("zstd").compress("".join(json.dumps(row) + "\n" for row in ROWS).encode(), asbytes=True)
    (tmp_path / "rows.jsonl.zst").write_bytes(packed)
    assert [row for _, row in LocalSource(str(tmp_path / "rows.jsonl.zst")).rows("all")] == ROWS
    (tmp_path / "two.jsonl.zst").write_bytes(packed * 2)  # as parallel compressors write them
    assert [row for _, row in LocalSource(str(tmp_path / "two.jsonl.zst")).rows("all")] == ROWS * 2
    (tmp_path / "torn.jsonl.zst").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(UserError, match="torn"):
        list(LocalSource(str(tmp_path / "torn.jsonl.zst")).rows("all"))
    (tmp_path / "text.jsonl.zst").write_text("{}\n")
    with pytest.raises(UserError, match=r"not a complete Zstandard file.*\n.*rename it to text\.jsonl"):
        list(LocalSource(str(tmp_path / "text.jsonl.zst")).rows("all"))


def test_a_split_may_be_numbered_files_and_a_missing_one_is_noticed(tmp_path):
    for name, rows in (
        ("train-00000-of-00002", ROWS[:2]),
        ("train-00001-of-00002", ROWS[2:3]),
        ("test_1", ROWS[3:4]),
        ("test_10", ROWS[4:]),
        ("validation", ROWS[:1]),
    ):
        write_rows(tmp_path / f"{name}.jsonl", rows)
    source = LocalSource(str(tmp_path))
    assert [row for _, row in source.rows("train")] == ROWS[:3]
    assert [row for _, row in source.rows("test")] == ROWS[3:]
    assert [place.rpartition("/")[2] for place, _ in source.rows("train")] == [
        "train-00000-of-00002.jsonl, line 1", "train-00000-of-00002.jsonl, line 2", "train-00001-of-00002.jsonl, line 1",
    ]  # fmt: skip
    write_rows(tmp_path / "hub" / "train-00000-of-00001-b42a775f407cee45.jsonl", ROWS[:2])
    assert [row for _, row in LocalSource(str(tmp_path / "hub")).rows("train")] == ROWS[:2]
    content = source.content()["train"]
    write_rows(tmp_path / "train-00001-of-00002.jsonl", ROWS[4:])
    assert LocalSource(str(tmp_path)).content()["train"] != content
    (tmp_path / "train-00001-of-00002.jsonl").unlink()
    with pytest.raises(UserError, match=r"1 of the 2 files of train are there"):
        LocalSource(str(tmp_path))
    for name in ("train.jsonl", "eval.jsonl", "train_more.jsonl", "notes.txt"):
        write_rows(tmp_path / "more" / name, ROWS)
    assert LocalSource(str(tmp_path / "more" / "eval.jsonl")).describe() == []
    data = Data(task(f"task.path={tmp_path / 'more'}"))
    assert data.reading()[0].startswith("files that are not read: eval.jsonl, train_more.jsonl (splits are called train, ")
    write_rows(tmp_path / "train.jsonl", ROWS)
    with pytest.raises(UserError, match=r"found both train\.jsonl and train-00000-of-00002\.jsonl"):
        LocalSource(str(tmp_path))


def test_parquet_decimals_and_maps_are_read(tmp_path):
    turn = pa.map_(pa.string(), pa.string())
    table = pa.table({
        "messages": pa.array(
            [[[("role", "user"), ("content", "Hi!")], [("role", "assistant"), ("content", "Hello.")]]], pa.list_(turn)
        ),
        "reward": pa.array([Decimal("0.75")], pa.decimal128(4, 2)),
    })  # fmt: skip
    pq.write_table(table, tmp_path / "rows.parquet")
    ((_, row),) = LocalSource(str(tmp_path / "rows.parquet")).rows("all")
    assert read(row) == [([("user", "Hi!"), ("assistant", "")], "Hello.", 0.75)]


@pytest.mark.parametrize("kind", [pa.float16(), pa.float32(), pa.float64()])
def test_numbers_are_the_decimals_that_were_written_whatever_their_precision(kind, tmp_path):
    whole = [0.7, 0.1, None, float("inf"), -0.0, 2048.0]
    pq.write_table(pa.table({"reward": pa.array(whole).cast(kind)}), tmp_path / "rows.parquet")
    assert [row["reward"] for _, row in LocalSource(str(tmp_path / "rows.parquet")).rows("all")] == whole
    assert ("float32" in LocalSource(str(tmp_path / "rows.parquet")).content()) == (kind != pa.float64())


def test_numbers_within_lists_objects_and_maps_are_decimals(tmp_path):
    kinds = {
        "list": pa.list_(pa.float32()), "large": pa.large_list(pa.float32()), "pair": pa.list_(pa.float32(), 2),
        "object": pa.struct({"a": pa.list_(pa.float32()), "b": pa.string()}), "map": pa.map_(pa.string(), pa.float32()),
    }  # fmt: skip
    row = {"list": [0.7, None], "large": [0.1], "pair": [0.3, 0.7], "object": {"a": [0.7], "b": "0.70"}, "map": {"a": 0.7}}
    pq.write_table(pa.Table.from_pylist([row, dict.fromkeys(row)], pa.schema(kinds)), tmp_path / "rows.parquet")
    assert [row for _, row in LocalSource(str(tmp_path / "rows.parquet")).rows("all")] == [row, dict.fromkeys(row)]


def test_every_single_is_the_shortest_decimal_that_gives_it(tmp_path):
    bits = np.random.default_rng(1).integers(0, 2**32, 10_000, dtype=np.uint32)
    singles = bits.view(np.float32)[np.isfinite(bits.view(np.float32))]
    pq.write_table(pa.table({"reward": singles}), tmp_path / "rows.parquet")
    found = [row["reward"] for _, row in LocalSource(str(tmp_path / "rows.parquet")).rows("all")]
    assert found == [float(str(single)) for single in singles]
    assert (np.float32(found) == singles).all()


@pytest.mark.parametrize("kind", [pa.float32(), pa.float64()])
def test_labels_and_bounds_mean_the_same_in_single_precision(kind, tmp_path):
    table = {"prompt": ["a", "b"], "response": ["c", "d"], "reward": pa.array([0.7, 0.1]).cast(kind)}
    pq.write_table(pa.table(table), tmp_path / "rows.parquet")
    rows = [row for _, row in LocalSource(str(tmp_path / "rows.parquet")).rows("all")]
    assert [read(row, "task.labels={0.1: 0, 0.7: 1}")[0][2] for row in rows] == [1.0, 0.0]
    raw = pa.table({"stored": [read(row)[0][2] for row in rows]})
    assert within(raw, 0.7, None).tolist() == [True, False]


@pytest.mark.parametrize(
    ("kind", "count", "cell"),
    [
        (pa.timestamp("us"), 86_400_000_000, "1970-01-02 00:00:00.000000"),
        (pa.timestamp("us"), 2**62, "<value out of range: 4611686018427387904>"),
        (pa.timestamp("s", "Mars/Olympus"), 60, "1970-01-01 00:01:00.000Z"),
        (pa.date32(), 3_000_000, "10183-09-21"), (pa.date64(), 86_400_000 * 3_000_000, "10183-09-21"),
        (pa.time64("ns"), 1, "00:00:00.000000001"), (pa.duration("ns"), 60 * 10**9 + 1, timedelta(minutes=1)),
    ],
)  # fmt: skip
def test_dates_are_text_also_those_that_python_does_not_know(kind, count, cell, tmp_path):
    whole = pa.array([count, None], pa.int32() if kind == pa.date32() else pa.int64()).cast(kind)
    nested = pa.ListArray.from_arrays([0, 1, 2], pa.StructArray.from_arrays([whole], ["at"]))
    table = pa.table(
        {"prompt": ["a", "b"], "date": whole, "turns": nested, "map": pa.MapArray.from_arrays([0, 1, 2], ["x", "y"], whole)}
    )
    pq.write_table(table, tmp_path / "rows.parquet")
    assert [row for _, row in LocalSource(str(tmp_path / "rows.parquet")).rows("all")] == [
        {"prompt": "a", "date": cell, "turns": [{"at": cell}], "map": {"x": cell}},
        {"prompt": "b", "date": None, "turns": [{"at": None}], "map": {"y": None}},
    ]


def test_a_date_is_no_reward(tmp_path):
    rated = pa.array([1, 2], pa.timestamp("s"))
    pq.write_table(pa.table({"prompt": ["a", "b"], "response": ["c", "d"], "reward": rated}), tmp_path / "rows.parquet")
    (_, row), _ = LocalSource(str(tmp_path / "rows.parquet")).rows("all")
    with pytest.raises(BadRow, match='field "reward": expected a number, got \'1970-01-01 00:00:01'):
        read(row)


def test_a_column_that_is_no_value_of_python_is_named_and_the_file_is_not_called_invalid(tmp_path):
    twice = pa.MapArray.from_arrays([0, 2], ["x", "x"], [1, 2])
    pq.write_table(pa.table({"prompt": ["a"], "tags": twice}), tmp_path / "rows.parquet")
    with pytest.raises(
        UserError, match=r'rows\.parquet, rows 1 to 1: the column "tags" cannot be read: .*\nLeave the column out'
    ):
        list(LocalSource(str(tmp_path / "rows.parquet")).rows("all"))


@pytest.mark.parametrize("line", [2, 3, 62])
def test_a_quote_that_csv_does_not_know_is_named_with_its_own_line(line, tmp_path):
    lines = ["prompt,response,reward", *(f"Visit {i}.,Good.,1" for i in range(70))]
    lines[line - 1] = 'Visit 0.,"say \\"hi\\" now",1'
    (tmp_path / "rows.csv").write_text("\n".join(lines))
    with pytest.raises(UserError, match=rf"rows\.csv, line {line}: not valid CSV: "):
        list(LocalSource(str(tmp_path / "rows.csv")).rows("all"))


def test_a_cell_of_csv_may_have_any_size(tmp_path):
    (tmp_path / "rows.csv").write_text(f"prompt,response\nHi,{'very ' * 60_000}good\n")
    ((_, row),) = LocalSource(str(tmp_path / "rows.csv")).rows("all")
    assert len(row["response"]) == 300_004


def test_shares_of_the_splits_can_be_set_and_stay_as_they_were_otherwise(tmp_path):
    prompts = [f"Visit {i}." for i in range(2000)]
    usual, wide = task(), task("task.split_shares.validation=0.2", "task.split_shares.test=0.3")
    found = [[one.split_of(prompt) for prompt in prompts] for one in (usual, wide)]
    shares = [[splits.count(split) / 2000 for split in ("train", "validation", "test")] for splits in found]
    assert shares[0] == pytest.approx([0.9, 0.05, 0.05], abs=0.015)
    assert shares[1] == pytest.approx([0.5, 0.2, 0.3], abs=0.03)
    assert "(50% train, 20% validation, 30% test)" in wide.how_to_fill("test")
    assert [composed("task=hha").task.split_of(prompt) for prompt in prompts] == found[0]


RUN = (
    "several", "openai", "openai, parts", "sharegpt", "pair with scores", "pair of turns", "pair of whole chats",
    "openai's preferences", "completion with a label", "completion of turns", "alpaca without input",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("form", RUN)
def test_each_form_goes_from_a_small_file_to_a_finished_run(form, tmp_path: Path):
    text = json.dumps(FORMS[form][0])
    rows = [json.loads(text.replace("tide", f"tide {i}").replace("igh", f"igh {i % 3}")) for i in range(200)]
    rewards = [i % 3 / 2 for i in range(len(rows))]
    if form.startswith("completion"):
        rows = [row | {"label": reward > 0} for row, reward in zip(rows, rewards, strict=True)]
    elif isinstance(FORMS[form][0].get("response", ""), str) and "chosen" not in text and "preferred" not in text:
        rows = [row | {"reward": reward} for row, reward in zip(rows, rewards, strict=True)]
    write_rows(tmp_path / "rows.jsonl", rows)
    options = [option for option in SMALL if not option.startswith(("task.max", "values.", "updates", "reference.updates"))]
    out, _ = quick(
        tmp_path, "run", "task=local", "task.path=rows.jsonl", "reward=column", "reward.transform=none", "reward.lo=0",
        "reward.hi=5", "values=constant", "task.max_prompt_tokens=64", "task.max_response_tokens=12", *options,
        "updates=2", "reference.updates=2",
    )  # fmt: skip
    assert "perplexity, logged" in out
