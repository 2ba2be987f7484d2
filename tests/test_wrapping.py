"""task.chat=wrap: prompts without turns as turns of the user, and what is told where a chat template goes unused."""

import json

import pytest
from chats import gemma_tokenizer, qwen3, qwen3_tokenizer
from running import quick
from tiny import composed, store, tokenizer, write_rows

from aloll_cli.errors import UserError
from aloll_cli.stages import inspect
from aloll_cli.tasks.base import Part
from aloll_cli.tasks.options import Chat
from aloll_cli.text.encoding import Encoder

UNUSED = "the model's chat template is not used for {}, which have no turns: task.chat=wrap makes each a turn of the user"
ASKED = "How do I bake bread?"


def encoded(parts, response, made_by, chat, limit=500):
    """The ids of prompt and response, and the response's text."""
    encoder = Encoder(made_by, limit, 50, chat)
    prompts = encoder.prompts([[vars(part) for part in parts]])
    (answer,) = encoder.responses([response], prompts)
    return prompts[0].ids, answer.ids, answer.text


@pytest.mark.parametrize("made_by", [qwen3_tokenizer(), gemma_tokenizer()])
def test_a_wrapped_prompt_has_the_tokens_of_the_chat_in_which_the_user_says_it(made_by):
    chat = encoded([Part(ASKED, "user"), Part("", "assistant")], "Mix flour.", made_by, Chat.template)
    assert chat[2] == "Mix flour."
    # the space that plain text needs between prompt and response is no part of the chat
    for response in (" Mix flour.", "Mix flour."):
        assert encoded([Part(ASKED)], response, made_by, Chat.wrap) == chat
    assert encoded([Part(ASKED)], " Mix flour.", made_by, Chat.template) != chat
    assert encoded([Part("How do I", eos=True), Part("bread?", prefix="bake ")], " Mix", made_by, Chat.wrap) == encoded(
        [Part("How do I\nbake bread?", "user"), Part("", "assistant")], "Mix", made_by, Chat.template
    )


def test_the_indentation_of_a_wrapped_response_stays():
    assert encoded([Part("def f():\n")], "    return", qwen3_tokenizer(), Chat.wrap)[2] == "    return"


def test_a_chat_is_not_wrapped_again_and_a_long_prompt_is_cut_on_the_left():
    made_by = qwen3_tokenizer()
    chat = [Part("Be brief.", "system"), Part(ASKED, "user"), Part("", "assistant")]
    assert encoded(chat, "Mix.", made_by, Chat.wrap) == encoded(chat, "Mix.", made_by, Chat.template)
    ids, _, _ = encoded([Part(ASKED * 5)], " Mix.", made_by, Chat.wrap, limit=40)
    assert len(ids) <= 40
    assert made_by.decode(ids).endswith("bake bread?<|im_end|>\n<|im_start|>assistant\n")


def test_a_model_without_a_template_refuses_to_wrap():
    with pytest.raises(UserError, match=r"task\.chat=wrap: the tokenizer of the model has no chat template\.\ntask"):
        Encoder(tokenizer(), 50, 50, Chat.wrap)


def written(folder, chats=0):
    """Rows without turns, some of whose training prompts are chats."""
    for start, split in enumerate(("train", "validation", "test")):
        plain = [{"prompt": f"{split} {i}: {ASKED}", "response": ("It is good.", "It is bad.")[i % 2]} for i in range(8)]
        turns = [[{"role": "user", "content": f"{start} {i}"}] for i in range(chats if split == "train" else 0)]
        write_rows(folder / f"{split}.jsonl", plain + [{"messages": messages, "response": "Mix."} for messages in turns])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("chats", "chat", "told"),
    [
        (0, "template", UNUSED.format("the prompts")),
        (2, "template", UNUSED.format("8 of 10 training prompts")),
        pytest.param(0, "wrap", None, marks=pytest.mark.slow),
        pytest.param(0, "plain", None, marks=pytest.mark.slow),
    ],
)
def test_inspect_says_that_the_template_is_not_used_unless_something_was_said(chats, chat, told, tmp_path, capsys):
    model = qwen3(tmp_path / "model")
    written(tmp_path / "rows", chats)
    options = (f"task.path={tmp_path / 'rows'}", f"task.chat={chat}", f"model.path={model}")
    inspect.run(composed("task=local", "model=pretrained", "reward=length", "format=json", *options), store(tmp_path / "out"))
    found = json.loads(capsys.readouterr().out)
    assert [line for line in found["reading"] if "template" in line] == ([told] if told else [])
    assert ("<|im_start|>user\n" in found["examples"][0]["prompt"]) is (chat == "wrap")


@pytest.mark.slow
def test_a_chat_model_trains_on_wrapped_prompts_and_train_says_where_the_template_is_not_used(tmp_path):
    model = qwen3(tmp_path / "model")
    written(tmp_path / "rows")
    options = (
        "task=local", "task.path=rows", "model=pretrained", f"model.path={model}", "reference=pretrained", "reward=vader",
        "task.max_prompt_tokens=64", "task.max_response_tokens=32", "values=constant", "updates=2", "eval_every=2",
        "batch_size=4", "resamples=100", "threads=1",
    )  # fmt: skip
    _, said = quick(tmp_path, "run", *options, "task.chat=wrap")
    assert "the model's chat template is not used" not in said
    (metrics,) = tmp_path.glob("outputs/local/metrics/*/metrics.json")
    assert json.loads(metrics.read_text())["n"] == 8
    _, said = quick(tmp_path, "train", *options)
    assert said.count(UNUSED.format("the prompts")) == 1
