"""One model in two folders is one model: its content decides, and where it lies is looked up."""

import shutil
from copy import copy

import pytest
from chats import llama_tokenizer
from tiny import composed, llama, opened, reviews, tokenizer
from transformers import AutoModelForCausalLM

from aloll_cli.artifacts.pipeline import Pipeline
from aloll_cli.errors import UserError
from aloll_cli.files import read_json
from aloll_cli.models.adapters import set_base
from aloll_cli.store.hub import ADAPTER, content_of
from aloll_cli.store.places import path_of
from aloll_cli.store.store import upstream

SHORT = ("task.max_response_tokens=8", "reference=pretrained", "values=constant", "values.value=0.1", "resamples=10", "threads=1")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Rows, one model in two folders, another model, and an adapter of the first."""
    root = tmp_path_factory.mktemp("addresses")
    reviews(root / "rows", train=4)
    for name, seed in (("first", 0), ("third", 1)):
        llama(seed).save_pretrained(root / name)
        tokenizer().save_pretrained(root / name)
    model = AutoModelForCausalLM.from_pretrained(root / "first")
    composed("adapter=lora", "adapter.r=3").adapter.add(model, seed=7)
    model.save_pretrained(root / "adapter")
    shutil.copytree(root / "first", root / "second")
    (root / "second" / "README.md").write_text("A copy.")
    return root


def line_of(place, *overrides):
    return Pipeline(composed(f"task.path={place / 'rows'}", *SHORT, "model=pretrained", *overrides))


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["first", "adapter"])
def test_a_model_is_evaluated_against_its_own_copy_in_another_folder(place, tmp_path, policy):
    line = line_of(place, f"model.path={place / 'second'}", f"policy={place / policy}")
    store = opened(tmp_path, line.settings.runtime)
    figures = read_json(store.ensure(line.metrics) / "metrics.json")
    assert figures["policy"]["kl"]["mean"] == pytest.approx(0, abs=1e-6)  # the adapter adds nothing yet
    assert len(list((tmp_path / "tokenizer").iterdir())) == 1


@pytest.mark.slow
def test_artifacts_of_one_copy_are_found_from_the_other(place, tmp_path):
    one, other = (line_of(place, f"model.path={place / name}") for name in ("first", "second"))
    assert one.reference.fingerprint == other.reference.fingerprint
    store = opened(tmp_path, one.settings.runtime)
    made = store.ensure(one.reference_logps)
    assert store.path(other.reference_logps) == made == path_of(other.reference_logps, tmp_path)
    assert all(store.is_complete(artifact) for artifact in upstream(other.reference_logps))
    assert opened(tmp_path, one.settings.runtime).ensure(other.reference_logps) == made


def test_an_adapter_whose_base_is_gone_is_evaluated_on_the_model_at_hand_with_a_warning(place, tmp_path, capsys):
    shutil.copytree(place / "adapter", tmp_path / "moved")
    set_base(tmp_path / "moved", str(tmp_path / "gone"))
    line = line_of(place, f"model.path={place / 'second'}", f"policy={tmp_path / 'moved'}")
    assert line.metrics.policy.generations.policy.address(None) == str(place / "second")
    opened(tmp_path / "out", line.settings.runtime).ensure(line.metrics.policy.generations.policy)
    assert (
        f"was trained on {tmp_path / 'gone'}; make sure that model.path={place / 'second'} is that model"
        in capsys.readouterr().err
    )


@pytest.mark.slow
@pytest.mark.parametrize(("path", "warned"), [("first", False), ("second", False), ("third", True)])
def test_an_adapter_that_names_another_base_is_warned_of(place, tmp_path, capsys, path, warned):
    line = line_of(place, f"model.path={place / path}", f"model.adapter={place / 'adapter'}", "adapter=pretrained")
    opened(tmp_path, line.settings.runtime).ensure(line.reference)
    assert ("make sure that model.path=" in capsys.readouterr().err) == warned


def test_an_adapter_that_comes_with_another_tokenizer_or_template_than_is_used_is_warned_of(place, tmp_path):
    shutil.copytree(place / "adapter", tmp_path / "adapter")
    model = composed("model=pretrained", f"model.path={place / 'first'}", f"model.adapter={tmp_path / 'adapter'}").model
    assert model.doubt() is None
    other = copy(tokenizer())
    other.save_pretrained(tmp_path / "adapter")
    assert model.doubt() is None
    used = f"than model.path={place / 'first'}, whose"
    other.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    other.save_pretrained(tmp_path / "adapter")
    assert model.doubt() == f"{tmp_path / 'adapter'} comes with another chat template {used} chat template is used"
    llama_tokenizer().save_pretrained(tmp_path / "adapter")
    assert model.doubt() == f"{tmp_path / 'adapter'} comes with another tokenizer {used} tokenizer is used"


def test_where_the_base_of_an_adapter_was_is_no_part_of_the_adapter(place, tmp_path):
    shutil.copytree(place / "adapter", tmp_path / "moved")
    set_base(tmp_path / "moved", "elsewhere")
    assert content_of(str(tmp_path / "moved"), None, ADAPTER) == content_of(str(place / "adapter"), None, ADAPTER)
    config = tmp_path / "moved" / ADAPTER
    config.write_text(config.read_text().replace('"r": 3', '"r": 4'))
    assert content_of(str(tmp_path / "moved"), None, ADAPTER) != content_of(str(place / "adapter"), None, ADAPTER)
    config.write_text("{")
    with pytest.raises(UserError, match=r"adapter_config\.json cannot be read"):
        content_of(str(tmp_path / "moved"), None, ADAPTER)
