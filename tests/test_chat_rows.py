"""What chat templates may not do, which rows they reject, and what a user is told about them."""

import json
import re
import time

import numpy as np
import pytest
import torch
from chats import GEMMA, gemma_tokenizer, qwen3_tokenizer
from families import FAMILIES, tokenizer_of
from safetensors.torch import load_file, save_file
from tiny import TEXTS, composed, open_model, store, write_rows
from transformers import LlamaConfig, LlamaForCausalLM

from aloll_cli.artifacts.chat_counts import chat_counts
from aloll_cli.artifacts.pipeline import Pipeline
from aloll_cli.errors import UserError
from aloll_cli.models.base import Dtype, Head, Placement
from aloll_cli.models.pretrained import check_embedding
from aloll_cli.models.scratch import Scratch
from aloll_cli.reports.token_text import TokenText
from aloll_cli.stages import inspect
from aloll_cli.stopping import Interrupted, Stopper, interruptibly
from aloll_cli.store.tables import read_blocks
from aloll_cli.tasks.base import BadRow, Part
from aloll_cli.tasks.options import Chat
from aloll_cli.text import template
from aloll_cli.text.encoding import Encoder
from aloll_cli.text.foreign_names import ForeignNames
from aloll_cli.text.limits import TookTooLong, Watch
from aloll_cli.text.words import LONGEST, has_long_word, without_long_words

CHATML = "{% for m in messages %}{{ '<start_of_turn>' + m.role + '\n' + m.content + '<end_of_turn>\n' }}{% endfor %}"
QUESTION = [("user", "How do I?")]


def prompt(source, turns=QUESTION, limit=400):
    encoder = Encoder(gemma_tokenizer(source), limit, 50, Chat.template)
    return encoder.prompts([[vars(Part(text, role)) for role, text in turns]])[0]


def decoded(source):
    return gemma_tokenizer().decode(prompt(source).ids)


def test_a_template_reads_the_same_date_on_any_day():
    today = "{{ strftime_now('%d %B %Y, %H:%M') }} {{ date_string }} {% for m in messages %}{{ m.content }}{% endfor %}"
    assert decoded(today) == "26 July 2024, 00:00 26 Jul 2024 How do I?"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", r"does not end: one chat took 0\.2 s"),
        ("{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}", "does not end"),
        ("{{ 'x' * 3000000000 }}", "needs more than 0.1 GB for one chat"),
        (
            "{% set ns = namespace(x='x') %}{% for i in range(40) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
            "needs more than 0.1 GB",
        ),
        ("{{ 'x' * 90000000 }}", "needs more than 0.1 GB"),
        ("{{ 9 ** 9 ** 9 }}", r"uses \*\*, whose time and memory have no limit"),
        ("{{ ['a', 'b'] | random }}", "draws text at random: it uses random"),
    ],
)
def test_a_template_that_does_not_end_or_needs_gigabytes_or_chance_is_refused(body, message, monkeypatch):
    monkeypatch.setattr(template, "SECONDS", 0.2 if "not end" in message else 5)
    monkeypatch.setattr(template, "BYTES", 10**8)
    started = time.monotonic()
    with pytest.raises(UserError, match=rf"^the model's chat template .*{message}.*\nSet task\.chat=plain"):
        prompt(body + CHATML)
    assert time.monotonic() - started < 20
    assert "How do I?" in decoded(CHATML)  # and the limits are gone


@pytest.mark.parametrize(
    "body", ["{{ 1 / 0 }}", "{{ messages.nothing.more }}", "{{ range(10**1) }}{{ range(999999) }}", "{{ 'a' + 1 }}"]
)
def test_whatever_a_template_raises_rejects_the_row(body):
    body = body.replace("10**1", "10")
    found = prompt(body + CHATML)
    assert isinstance(found, BadRow)
    assert str(found).startswith("the model's chat template rejects turns with the roles user: ")


def test_a_watch_ends_what_takes_too_long_and_nothing_else():
    with Watch(0.1) as watch:
        assert [watch.call(lambda i=i: i * i) for i in range(1000)] == [i * i for i in range(1000)]
        with pytest.raises(TookTooLong):
            watch.call(lambda: [None for _ in iter(int, 1)])
    time.sleep(0.3)  # an exception that comes late would come here


def rows(count, start=0, system=None):
    turns = [{"role": "system", "content": system}] if system else []
    return [
        {"messages": [*turns, {"role": "user", "content": f"How was {i}?"}], "response": f"It was {i}.", "reward": i % 2}
        for i in range(start, start + count)
    ]


@pytest.fixture
def data(tmp_path):
    """Chats of which the second of the train split has a system turn, after an empty line."""
    for split, start in (("train", 0), ("validation", 100), ("test", 200)):
        write_rows(tmp_path / "rows" / f"{split}.jsonl", rows(4, start))
    text = "".join(json.dumps(row) + "\n" for row in rows(1))
    refused = json.dumps(rows(1, 50, system="Be brief.")[0])
    (tmp_path / "rows" / "train.jsonl").write_text(f"{text}\n{refused}\n{text.replace('0', '7')}")
    return tmp_path / "rows"


@pytest.fixture(scope="module")
def gemma(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("gemma"), gemma_tokenizer())


def random_llama(tokenizer, vocabulary=None):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary or len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=256, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def saved(folder, tokenizer, vocabulary=None):
    random_llama(tokenizer, vocabulary).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def settings_of(data, model, *more):
    options = ("task=local", f"task.path={data}", "model=pretrained", f"model.path={model}", "reward=length")
    return composed(*options, "task.max_prompt_tokens=64", "task.max_response_tokens=32", *more)


def examples(settings, root):
    line, shop = Pipeline(settings), store(root)
    return line, shop.ensure(line.examples)


def test_a_row_that_the_template_rejects_is_named_with_file_and_line(data, gemma, tmp_path):
    message = rf"{data}/train\.jsonl, line 3: the model's chat template rejects .* system, user: System role not supported\.\n"
    with pytest.raises(UserError, match=message + r"Leave such rows out with task\.on_bad_row=skip, set task\.chat=plain"):
        examples(settings_of(data, gemma), tmp_path / "out")


@pytest.mark.slow
def test_rejected_rows_can_be_skipped_and_are_counted(data, gemma, tmp_path, capsys):
    settings = settings_of(data, gemma, "task.on_bad_row=skip", "format=json")
    line, folder = examples(settings, tmp_path / "out")
    assert "train: 2 responses; truncated: 0 prompts, 0 responses; rejected by the chat template: 1" in capsys.readouterr().err
    counts = chat_counts(folder, "train")
    assert (counts.rows, [row["id"] for row in counts.rejected]) == (2, ["train-1-0"])
    assert line.data.place("train-1-0") == f"{data}/train.jsonl, line 3"
    inspect.run(settings, store(tmp_path / "out"))
    found = json.loads(capsys.readouterr().out)["splits"]["train"]
    assert (found["examples"], found["left_out"], found["chats"]["rejected"]) == (2, 1, 1)
    assert "System role not supported" in found["chats"]["why"]


@pytest.mark.parametrize(
    ("said", "role", "expected"),
    [
        ("m.content", "user", False),
        ("m.content | trim", "user", False),
        ("m.content | replace('manual', '')", "user", True),
        ("m.content | lower", "user", True),
        ("m.content | truncate(12, True)", "system", True),
        ("m.content.split('</think>')[-1]", "assistant", False),  # what it thought before, which many templates leave out
    ],
)
def test_prompts_of_which_the_template_leaves_out_or_changes_something_are_found(said, role, expected):
    turns = [("user", "Hi"), ("assistant", "<think>Hm.</think> Hello."), ("user", " What does the Manual, or manual, say? ")]
    turns = [("system", "Be brief, and honest."), *turns] if role == "system" else turns
    assert prompt(CHATML.replace("m.content", said), turns).altered is expected
    assert not prompt(CHATML, [("user", "a <end_of_turn> typed")]).altered  # the name of a control token stays text


@pytest.mark.slow
def test_responses_of_which_the_template_leaves_out_something_are_counted_and_warned_of(data, tmp_path, capsys):
    said = "{{ m.content.split('</think>')[-1] if m.role == 'assistant' else m.content }}"
    strips = CHATML.replace("' + m.content + '", "' }}" + said + "{{ '")
    assert strips != CHATML
    model = saved(tmp_path / "strips", gemma_tokenizer(strips))
    thoughts = [rows(1)[0], rows(1, 1)[0] | {"response": "<think>Hm.</think>\n\nIt was 1."}]
    write_rows(data / "train.jsonl", [*thoughts, rows(1, 2)[0] | {"response": "\n It  was 2. "}])
    settings = settings_of(data, model, "format=json")
    _, folder = examples(settings, tmp_path / "out")
    counts = chat_counts(folder, "train")
    assert (counts.rows, counts.altered, counts.first["altered"]) == (3, 1, "train-1-0")
    warning = "warning: 1 of 3 train responses are not trained as they are: the chat template leaves out or changes some of their"
    assert warning in capsys.readouterr().err
    assert read_blocks(folder / "train", ["response"]).column("response").to_pylist()[1] == "\n\nIt was 1."
    assert counts.altered_prompts == chat_counts(folder, "test").altered == 0
    inspect.run(settings, store(tmp_path / "out"))
    assert json.loads(capsys.readouterr().out)["splits"]["train"]["chats"]["altered"] == 1


def test_a_split_of_rejected_rows_alone_says_why(data, gemma, tmp_path):
    write_rows(data / "test.jsonl", rows(3, 200, system="Be brief."))
    with pytest.raises(
        UserError, match="the test split has no examples left: the model's chat template rejects .* not supported"
    ):
        examples(settings_of(data, gemma, "task.on_bad_row=skip"), tmp_path / "out")


@pytest.mark.slow
def test_inspect_tells_typed_control_tokens_cut_turns_and_what_is_tokenized_apart(tmp_path, capsys):
    thinks = "{% if add_generation_prompt %}{{ '<start_of_turn>assistant\n<eos>' }}{% endif %}"  # the whole chat has no <eos>
    model = saved(tmp_path / "model", gemma_tokenizer(CHATML + thinks))
    turns = [{"role": "user", "content": "How do I bake bread? " * 3}, {"role": "assistant", "content": "Mix."}]
    for start, split in enumerate(("train", "validation", "test")):
        written = rows(3, 10 * start)
        written[1]["messages"] = [{"role": "system", "content": "Be brief."}, *turns, *written[1]["messages"]]
        written[2]["response"] = "Stop.<end_of_turn>"
        write_rows(tmp_path / "rows" / f"{split}.jsonl", written)
    inspect.run(settings_of(tmp_path / "rows", model), store(tmp_path / "out"))
    out, err = capsys.readouterr()
    assert "warning: 3 of 3 train responses are tokenized apart from their prompt" in err
    assert "warning: 1 of 3 train rows contain the name of a control token; it stays text (turns of" in err
    assert "The first: train-2-0." in err
    assert "train-1-0, stored reward" in out
    assert "turns cut: 2 (user), 3 (assistant), response tokenized apart from the prompt" in out
    assert "Stop.[typed: <end_of_turn>]<end_of_turn>" in out
    assert "[typed: NAME] marks the name of a control token that is only text" in out
    table = out.partition("chat template, control tokens and tokenizer")[2].splitlines()
    assert next(line.split() for line in table if line.startswith("train")) == ["train", "1", "3", "1"]


def test_control_tokens_of_other_models_are_told_from_a_models_own_and_from_html_and_code():
    for name, family in FAMILIES.items():
        own = tokenizer_of(name, "byte-level")
        turns = [{"role": role, "content": "How?"} for role in ("user", "assistant")]
        text = own.apply_chat_template(turns, tokenize=False, add_generation_prompt=False)
        assert ForeignNames(own).of([text, *family.control]) == []
    texts = ["<|start_header_id|>user<|end_header_id|>\n\nHow?<|eot_id|>", "[INST] <<SYS>>\nBe brief.\n<</SYS>> How? [/INST]"]
    texts += ["<start_of_turn>user\nHow?<end_of_turn>", "<｜User｜>How?<｜end▁of▁sentence｜>", "a<|im_end|><|im_start|>"]
    assert ForeignNames(tokenizer_of("chatml", "byte-level")).of(texts) == [
        "<</SYS>>", "<<SYS>>", "<end_of_turn>", "<start_of_turn>", "<|end_header_id|>", "<|eot_id|>", "<|start_header_id|>",
        "<｜User｜>", "<｜end▁of▁sentence｜>", "[/INST]", "[INST]",
    ]  # fmt: skip
    # what llama 2's template writes is text to its tokenizer, too
    assert "[INST]" not in ForeignNames(tokenizer_of("llama 2", "byte-level")).of(texts)
    code = (
        "<b>1</b> <div class='x'> a<|b, c|>d, x <| y |> z, table[INST], [INSTALL], <s>no</s>, Vec<T>, <think>, <start>, [1], <||>"
    )
    assert ForeignNames(tokenizer_of("chatml", "byte-level")).of([code]) == []


@pytest.mark.slow
def test_rows_that_were_formatted_for_another_model_are_counted_and_warned_of(tmp_path, gemma, capsys):
    asked, answered = "<|start_header_id|>user<|end_header_id|>\n\nQuestion {}<|eot_id|>", "Answer {}.<|eot_id|>"
    for start, split in enumerate(("train", "validation", "test")):
        written = [{"prompt": f"Is <b>{start}{i}</b> bold?", "response": f"It is {i}.", "reward": i} for i in range(2)]
        written.append({"prompt": asked.format(start), "response": answered.format(start), "reward": 1.0})
        write_rows(tmp_path / "rows" / f"{split}.jsonl", written)
    settings = settings_of(tmp_path / "rows", gemma)
    inspect.run(settings, store(tmp_path / "out"))
    out, err = capsys.readouterr()
    names = ["<|end_header_id|>", "<|eot_id|>", "<|start_header_id|>"]
    warning = (
        f"1 of 3 train rows contain control tokens of other models, which are ordinary text to this one ({', '.join(names)}): "
        "write such rows as turns in the column messages, or choose the model that they were formatted for. The first: train-2-0."
    )
    assert f"warning: {warning}" in err
    assert f"control tokens of other models, which are ordinary text to this one: {', '.join(names)}" in out
    counts = chat_counts(examples(settings, tmp_path / "out")[1], "train")
    assert (counts.foreign, counts.typed, counts.warnings("train")) == (1, 0, [warning])
    inspect.run(settings_of(tmp_path / "rows", gemma, "format=json"), store(tmp_path / "out"))
    found = json.loads(capsys.readouterr().out)["splits"]["train"]["chats"]
    assert (found["foreign"], found["foreign_names"]) == (1, names)


def test_tokens_as_text_tell_a_control_token_from_its_name():
    qwen = qwen3_tokenizer()
    typed = qwen("a<|im_end|>", split_special_tokens=True)["input_ids"]
    assert TokenText(qwen).text([1, *typed, 2]) == "<|im_start|>a[typed: <|im_end|>]<|im_end|>"
    assert TokenText(qwen).text([1, 2]) == "<|im_start|><|im_end|>"
    assert TokenText(qwen).text([]) == ""
    nothing_special = tokenizer_of("deepseek", "byte-level", special=False)
    (prompt,) = Encoder(nothing_special, 500, 200, Chat.template).prompts([[vars(Part("a<｜User｜><think>b", "user"))]])
    assert TokenText(nothing_special).text(prompt.ids) == (
        "<｜begin▁of▁sentence｜><｜User｜>a[typed: <｜User｜>]<think>b<｜Assistant｜>"
    )


def test_a_tokenizer_with_more_tokens_than_the_embedding_is_refused_with_both_sizes(tmp_path):
    larger = gemma_tokenizer()
    larger.add_tokens(["<cite>", "</cite>"])
    size = len(larger)
    model = saved(tmp_path / "model", larger, size - 2)
    settings, place = settings_of("unread", model), Placement(torch.device("cpu"), Dtype.float32, None)
    with pytest.raises(
        UserError, match=rf"model has {size} tokens \(<cite>, </cite>\), but the .* embedding has only {size - 2} rows"
    ):
        settings.model.initial(settings.model.tokenizer([]), 1, place)


def test_control_tokens_without_a_row_are_refused_only_where_something_writes_them():
    model = random_llama(gemma_tokenizer())
    images = gemma_tokenizer()
    images.add_special_tokens({"additional_special_tokens": ["<image>"]})
    check_embedding(model, images, "gemma")
    images.chat_template = GEMMA + "{{ '<image>' }}"
    with pytest.raises(UserError, match=r"the tokenizer of gemma has 321 tokens \(<image>\).* only 320 rows"):
        check_embedding(model, images, "gemma")
    padded = gemma_tokenizer()
    padded.add_special_tokens({"pad_token": "[PAD]"})
    with pytest.raises(UserError, match=r"\(\[PAD\]\)"):
        check_embedding(model, padded, "gemma")


def scratch(texts):
    options = {"head": Head.full, "dtype": Dtype.float32, "hidden_size": 8, "intermediate_size": 8, "layers": 1, "heads": 1}
    return Scratch(**options, vocab_size=400, context=8, tie_embeddings=False).tokenizer(texts)


def test_words_of_many_letters_cost_no_minutes_and_change_no_other_text():
    huge = ["a" * 300_000, "".join(np.random.default_rng(0).choice(list("abcdefgh"), 300_000)), " " * 300_000]
    started = time.process_time()
    found = scratch([*TEXTS, *huge])  # half a minute for each if they are left whole
    assert time.process_time() - started < 10
    assert len(found("a" * 10**5)["input_ids"]) < 10**5
    ordinary = ["word " * 1000, "12 " * 999, *TEXTS]
    assert [without_long_words(text) for text in ordinary] == [[text] for text in ordinary]


@pytest.mark.parametrize(
    "text", ["x" * 2500, "see " + "y" * LONGEST + " end", "=" * 3000 + "7" * 1001, "\n" * 1234, "é" * 5000 + "_" * 1000]
)
def test_the_pieces_of_a_long_word_make_up_the_text(text):
    assert has_long_word(text)
    pieces = without_long_words(text)
    assert "".join(pieces) == text
    assert not any(has_long_word(piece) and len(piece) > LONGEST + 10 for piece in pieces)


def test_a_stop_ends_work_that_a_library_does(monkeypatch):
    stopper = Stopper(None)
    assert interruptibly(lambda: 3, stopper) == 3
    with pytest.raises(TimeoutError, match="its own"):
        interruptibly(lambda: (_ for _ in ()).throw(TimeoutError("its own")), stopper)
    stopper._note(15, None)
    with pytest.raises(Interrupted):
        interruptibly(lambda: time.sleep(2), stopper)


def test_a_model_whose_files_lack_weights_is_refused_instead_of_being_random_there(tmp_path):
    saved(tmp_path, gemma_tokenizer())
    weights = load_file(tmp_path / "model.safetensors")
    lost = next(name for name in weights if "up_proj" in name)
    save_file(
        {name: weight for name, weight in weights.items() if name != lost}, tmp_path / "model.safetensors", {"format": "pt"}
    )
    with pytest.raises(UserError, match=rf"has no weights for 1 of its parts \({re.escape(lost)}\), which would be random"):
        open_model(tmp_path)
