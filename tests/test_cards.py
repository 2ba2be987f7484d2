"""Model cards: their metadata read back, their code answers as evaluate did, and they go to the hub only where that is asked."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import pytest
from chats import qwen3, qwen3_tokenizer
from evaluated import figures
from hub import TOKEN, Hub, hub
from huggingface_hub import EvalResult, ModelCard, constants
from markdown_it import MarkdownIt
from running import SMALL, quick
from tiny import composed, llama, open_model, tokenizer

from aloll_cli.artifacts.pipeline import Pipeline
from aloll_cli.artifacts.usage import Usage, usage_of
from aloll_cli.errors import UserError
from aloll_cli.models.ends import end_tokens, saved_end_tokens
from aloll_cli.models.generation import respond
from aloll_cli.models.pretrained import with_plain_decoding
from aloll_cli.reports.markdown import coded
from aloll_cli.reports.model_card import Exported, _data, _metadata, model_card
from aloll_cli.reports.snippet import snippet
from aloll_cli.stopping import Interrupted, Stopper
from aloll_cli.store.publishing import check_push, publish
from aloll_cli.tasks.base import Turn
from aloll_cli.text.encoding import Encoder

ABOUT = {"task": "reviews", "variant": "seq", "seed": 1, "split": "test", "reward": "vader", "test_reward": None}


def metrics_of(**more: Any) -> dict[str, Any]:
    rows = [
        {"policy": {"response": "good", "reward": 0.5 + i / 40}, "reference": {"response": "bad", "reward": 0.4}}
        for i in range(12)
    ]
    return figures("seq", 1, rows) | more


def card_of(*overrides: str, about: dict[str, Any] = ABOUT, metrics: Any = None, **exported: Any) -> ModelCard:
    return model_card(Pipeline(composed(*overrides)).policy, about, metrics, Exported(**exported))


def test_the_metadata_are_those_that_huggingface_hub_reads_back(tmp_path):
    metrics = metrics_of()
    metrics["policy"]["kl_per_token"] = {"mean": 0.123456789012345, "ci95": [0.1, 0.2]}
    card = card_of(metrics=metrics, base="owner/base")
    card.save(tmp_path / "README.md")
    read = ModelCard.load(tmp_path / "README.md")
    assert read.data.to_dict() == card.data.to_dict()
    assert str(read) == str(card)
    assert (read.data.base_model, read.data.base_model_relation, read.data.library_name) == ("owner/base", "adapter", "peft")
    assert read.data.tags == ["offline-rl", "a-lol"]
    assert read.data.eval_results == card.data.eval_results
    found = {result.metric_type: result for result in read.data.eval_results}
    assert found["gain"] == EvalResult(
        task_type="text-generation", dataset_type="reviews", dataset_name="reviews", dataset_split="test", metric_type="gain",
        metric_name="reward gain over the model before training (vader)", metric_value=metrics["gain"]["mean"],
        metric_args={"prompts": 12, "ci95": metrics["gain"]["ci95"]},
    )  # fmt: skip
    assert found["reward"].metric_value == metrics["policy"]["reward"]["mean"]
    assert found["kl_per_token"].metric_value == 0.123456789012345
    assert found.keys() == {"gain", "reward", "kl_per_token"}


def test_the_data_set_and_its_licence_are_named():
    assert "The rows that aloll ships with the task, licence: apache-2.0." in card_of().text
    policy = Pipeline(composed("task=hha", "task.path=rows", "reward=length", "values=constant", "values.value=1")).policy
    task, link = policy.examples.task, "[Anthropic/hh-rlhf](https://huggingface.co/datasets/Anthropic/hh-rlhf)"
    assert _data(task) == [f"Rows of a local file or folder in the form of {link}; of that data set: licence: mit."]
    task.path = None
    assert _data(task) == [f"{link}, licence: mit."]
    found = _metadata(policy, ABOUT | {"task": "hha"}, metrics_of(task="hha"), Exported())
    assert found.datasets == ["Anthropic/hh-rlhf"]
    assert {result.dataset_type for result in found.eval_results} == {"Anthropic/hh-rlhf"}
    assert found.base_model is None


def test_without_a_scorer_the_gain_is_not_measured():
    metrics = metrics_of(gain=None, gain_why="the reward cannot score new text")
    del metrics["policy"]["reward"], metrics["reference"]["reward"]
    card = card_of(metrics=metrics)
    assert "- gain: not measured (the reward cannot score new text)\n" in card.text
    assert card.data.eval_results is None
    assert "model-index" not in str(card)
    assert "Not evaluated." in card_of().text


def test_names_in_a_card_stay_text():
    about = ABOUT | {"reward": "a`b|c\n---\n<b>", "task": "x_y_*z*[q](http://h)\n# no"}
    card = card_of(about=about, metrics=metrics_of(reward=about["reward"]))
    read = ModelCard(str(card))
    assert read.data.to_dict() == card.data.to_dict()
    html = MarkdownIt("commonmark").enable("table").render(read.text)
    assert "<b>" not in html
    assert "<em>" not in html
    assert "http://h</a>" not in html
    assert html.count("<h1>") == 1
    assert "<code>a`b\\|c\\n---\\n&lt;b&gt;</code>" in html
    assert coded("") == "` `"


def code_in(card: str) -> str:
    found = re.search(r"```python\n(.*?)```", card, re.DOTALL)
    assert found is not None
    return found[1]


def asked(code: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the code of a card defines, run in a folder."""
    monkeypatch.chdir(folder)
    found: dict[str, Any] = {}
    exec(code, found)
    return found


@pytest.mark.parametrize("more", [["generation=greedy", "task.stop=[e]"], ["generation=beam"]], ids=["greedy", "beam"])
def test_the_code_answers_texts_as_evaluate_does(more, tmp_path, monkeypatch, capsys):
    settings = composed(*more, "generation.repetition_penalty=1.3", "task.max_response_tokens=9")
    model, tokens = with_plain_decoding(llama(), tokenizer()), tokenizer()
    model.save_pretrained(tmp_path)
    tokens.save_pretrained(tmp_path)
    ends = saved_end_tokens(tmp_path, tokens)
    assert ends == end_tokens(model, tokens) == [2]
    usage = usage_of(settings.task, settings.generation, tokens, ends, chats=False)
    assert usage is not None
    assert usage.is_exact
    found = asked(snippet(settings.model, usage, ".", None), tmp_path, monkeypatch)
    prompts = ["It was good", "A bad", "Visit 3 to the test place."]
    encoded = Encoder(tokens, 64, 9, settings.task.chat).prompts(
        [[vars(part) for part in settings.task.asked(p)] for p in prompts]
    )
    ours = respond(
        model, tokens, [np.array(prompt.ids) for prompt in encoded], prompts, settings.generation, stream="0", max_tokens=9,
        stop=settings.task.stop, batch_tokens=1000,
    )  # fmt: skip
    assert [found["respond"](prompt) for prompt in prompts] == [response.text for response in ours]
    assert len({response.text for response in ours}) > 1
    assert capsys.readouterr().out.startswith(found["respond"]("Today I"))


def usage_in(task: str, tokens: Any, chats: bool | None = True, *more: str) -> Usage:
    settings = composed(task, "reward=length", "values=constant", "values.value=1", "generation=greedy", *more)
    found = usage_of(settings.task, settings.generation, tokens, [2], chats)
    assert found is not None
    return found


def test_the_code_answers_chats_as_evaluate_does(tmp_path, monkeypatch):
    model, tokens = open_model(qwen3(tmp_path)), qwen3_tokenizer()
    options = ("task=local", "task.path=rows.jsonl", "task.chat=without_thinking", "task.max_response_tokens=7")
    settings = composed(*options, "reward=length", "values=constant", "values.value=1", "generation=greedy")
    usage = usage_of(settings.task, settings.generation, tokens, end_tokens(model, tokens), chats=True)
    assert usage is not None
    assert usage.is_exact
    assert usage.template == {"enable_thinking": False}
    found = asked(snippet(settings.model, usage, ".", None), tmp_path, monkeypatch)
    chats = [[Turn(role="user", content="Hi")], [Turn(role="system", content="Be brief"), Turn(role="user", content="Why?")]]
    encoder = Encoder(tokens, 64, 7, settings.task.chat)
    prompts = encoder.prompts([[vars(part) for part in settings.task.conversation(chat)] for chat in chats])
    ours = respond(
        model, tokens, [np.array(prompt.ids) for prompt in prompts], ["a", "b"], settings.generation, stream="0", max_tokens=7,
        stop=[], batch_tokens=1000, around=[prompt.around for prompt in prompts],
    )  # fmt: skip
    assert [found["respond"](chat) for chat in chats] == [response.text for response in ours]


def test_prompts_of_several_parts_are_tokenized_one_by_one():
    usage = usage_in("task=hha", tokenizer(), True, "task.path=rows")
    assert usage.parts[-2:] == ("\n### Human: What is the capital of France?", " ### Assistant:")
    assert usage.is_exact
    code = snippet(composed().model, usage, ".", None)
    compile(code, "card", "exec")
    assert "def respond(*parts):" in code
    assert "BitsAndBytes" not in code


@pytest.mark.parametrize(
    ("chat", "chats", "messages"),
    [("template", True, 1), ("template", None, 1), ("template", False, 0), ("wrap", False, 1), ("plain", True, 0)],
)
def test_the_template_is_used_where_it_was(chat, chats, messages):
    usage = usage_in("task=local", qwen3_tokenizer(), chats, "task.path=rows.jsonl", f"task.chat={chat}")
    assert len(usage.messages) == messages
    assert bool(usage.parts) == (messages == 0)
    assert usage.is_exact


def test_sampling_is_that_of_the_evaluation_without_published_limits():
    settings = composed("generation.temperature=0.7", "generation.top_p=0.9")
    usage = usage_of(settings.task, settings.generation, tokenizer(), [2], False)
    assert usage is not None
    code = snippet(settings.model, usage, "owner/name", "owner/base")
    assert "GenerationConfig(do_sample=True, temperature=0.7, top_p=0.9, top_k=0, max_new_tokens=64," in code
    assert 'place = "owner/name"\n' in code
    assert 'from_pretrained("owner/base", dtype=torch.float32)' in code


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch):
    """A hub on this machine in place of the real one, and a token for it."""
    with hub() as found:
        monkeypatch.setattr(constants, "ENDPOINT", found.url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield found


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").write_bytes(bytes(range(256)) * 8)
    (tmp_path / "model" / "config.json").write_text("{}")
    card_of(metrics=metrics_of()).save(tmp_path / "model" / "README.md")
    return tmp_path / "model"


def test_a_folder_is_pushed_in_one_commit_after_its_card_was_checked(online: Hub, exported: Path):
    check_push("tester/new")
    assert publish(exported, "tester/new", "of a test", Stopper(None)) == f"{online.url}/tester/new"
    assert online.repositories == {"tester/new": "private"}
    ((name, files),) = online.commits
    assert name == "tester/new"
    assert files == {path.name: path.read_bytes() for path in exported.iterdir()}
    order = [
        next(i for i, one in enumerate(online.asked) if part in one) for part in ("validate", "create", "preupload", "commit/")
    ]
    assert order == sorted(order)
    publish(exported, "tester/new", "again", Stopper(None))
    assert len(online.commits) == 1  # nothing has changed


def test_an_upload_that_broke_off_goes_on_where_it_stopped(online: Hub, exported: Path):
    online.breaks = 1
    with pytest.raises(UserError, match=r"push=tester/new: the hub refuses it: .*broken off") as raised:
        publish(exported, "tester/new", "of a test", Stopper(None))
    assert raised.value.args[1] == "Repeat the command: what was sent is not sent again."
    assert online.commits == []
    publish(exported, "tester/new", "of a test", Stopper(None))
    assert len(online.commits) == 1
    assert online.count("PUT /store") == 2
    (exported / "config.json").write_text('{"more": 1}')
    publish(exported, "tester/new", "of a test", Stopper(None))
    assert online.commits[1][1] == {"config.json": b'{"more": 1}'}
    assert online.count("PUT /store") == 2  # the weights were there already


def test_what_cannot_be_pushed_is_said_by_name(online: Hub, exported: Path, monkeypatch):
    for name, said in (("new", "push=new has no owner."), ("a/b/c", "push=a/b/c is no name on the hub"), ("a b/c", "is no name")):
        with pytest.raises(UserError, match=said):
            check_push(name)
    with pytest.raises(UserError, match="push=other/new: the hub refuses it: 403 Forbidden"):
        publish(exported, "other/new", "of a test", Stopper(None))
    online.refuses = "base_model is wrong"
    with pytest.raises(UserError, match=r"push=tester/new: the hub refuses the model card: base_model is wrong\."):
        publish(exported, "tester/new", "of a test", Stopper(None))
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(UserError, match=r"push=tester/new: the hub refuses it: ") as raised:
        check_push("tester/new")
    assert "Use a token that may write there" in raised.value.args[1]
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(UserError, match=r"push=tester/new: there is no token of the hub\."):
        check_push("tester/new")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="HF_HUB_OFFLINE=1 forbids it"):
        check_push("tester/new")
    assert online.commits == []
    assert online.repositories == {}


def test_a_hub_that_is_away_is_said_by_name(online: Hub, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError, match=r"push=tester/new: the hub cannot be reached: "):
        check_push("tester/new")


def test_a_stop_ends_an_upload(online: Hub, exported: Path):
    with Stopper(None) as stopper:
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Interrupted):
            publish(exported, "tester/new", "of a test", stopper)
    assert online.commits == []


@pytest.mark.slow
def test_export_pushes_where_it_is_asked_and_nowhere_else(undisturbed: Path, tmp_path: Path):
    copytree(undisturbed, tmp_path / "outputs")
    with hub() as found:
        online = (
            "import os, huggingface_hub.constants as c\n"
            f"c.ENDPOINT, c.HF_HUB_OFFLINE, c.HF_HUB_DISABLE_XET = {found.url!r}, False, True\n"
            f"os.environ['HF_TOKEN'] = {TOKEN!r}\n"
        )
        quick(tmp_path, "export", *SMALL, "to=exported", before=online)
        assert found.asked == []
        _, said = quick(tmp_path, "export", *SMALL, "push=tester/small", before=online)
        assert f"pushed    {found.url}/tester/small" in said
        ((_, files),) = found.commits
    local = {path.name: path.read_bytes() for path in (tmp_path / "exported").iterdir()}
    assert files.keys() == local.keys()
    assert {name for name in local if files[name] != local[name]} == {"README.md"}
    assert b'place = "tester/small"' in files["README.md"]
    assert not list((tmp_path / "outputs" / "reviews").glob(".push-*"))
