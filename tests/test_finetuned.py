"""Neural rewards fine-tuned on stored rewards: losses by hand, learning, resuming, damage, and what cannot be learned from."""

import json
import random
import shutil
import signal
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from running import SMALL, quick
from safetensors.torch import load_file
from scipy.special import expit
from scipy.stats import spearmanr
from test_durable import flip
from tiny import composed, gpt2, llama, opened, store, tokenizer, write_rows
from torch.testing import assert_close
from torture import contents
from transformers import RobertaConfig, RobertaForMaskedLM, T5Config, T5EncoderModel

from aloll_cli.artifacts import finetuned_reward
from aloll_cli.artifacts.data import Data
from aloll_cli.artifacts.finetuned_reward import FinetunedReward, Ratings
from aloll_cli.artifacts.pipeline import Pipeline
from aloll_cli.errors import UserError
from aloll_cli.rewards.base import Row
from aloll_cli.rewards.finetuned import OBJECTIVES, Goal
from aloll_cli.rewards.ratings import Prompts
from aloll_cli.rewards.reading import Reader
from aloll_cli.stopping import Interrupted, Stopper
from aloll_cli.tasks.base import prompt_key
from aloll_cli.training.progress import damage_of_checkpoint
from aloll_cli.training.reward_loop import drawn

WORDS = ["sun", "rain", "tea", "bread", "road", "lamp"]
TINY = [
    "reward=finetuned", "reward.body.hidden_size=32", "reward.body.layers=1", "reward.body.heads=2",
    "reward.body.intermediate_size=64", "reward.body.vocab_size=400", "reward.max_prompt_tokens=16",
    "reward.max_response_tokens=16", "reward.eval_every=20", "reward.optimizer.lr=1e-2", "reward.optimizer.warmup_updates=5",
]  # fmt: skip


def rating(text: str) -> float:
    """What the tests let a model learn: suns less rains."""
    return 3.0 + text.count("sun") - text.count("rain")


def written(folder: Path, prompts: int = 60, rate=rating) -> Path:
    """A file with prompts of two responses each; ``rate`` is a function of a response."""
    rng = random.Random(0)
    rows = []
    for i in range(prompts):
        for _ in range(2):
            response = " ".join(rng.choice(WORDS) for _ in range(4))
            rows.append({"prompt": f"Day {i}:", "response": response} | ({} if rate is None else {"reward": rate(response)}))
    write_rows(folder / "rows.jsonl", rows)
    return folder / "rows.jsonl"


def artifact(file: Path, *options: str) -> FinetunedReward:
    settings = composed("task=local", f"task.path={file}", *TINY, *options)
    return FinetunedReward(settings.reward, Data(settings.task))


def files(folder: Path) -> dict[str, bytes]:
    """What a build left, without seconds, logs and its configuration."""
    kept = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    found = {str(file.relative_to(folder)): text for file, text in kept.items() if file.suffix not in (".txt", ".yaml")}
    lines = [json.loads(line) for line in found.pop("metrics.jsonl").splitlines()]
    found["metrics"] = json.dumps([{key: value for key, value in line.items() if key != "seconds"} for line in lines]).encode()
    return {name: text for name, text in found.items() if not name.endswith(("manifest.json", "build.json"))}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return written(tmp_path_factory.mktemp("rows"), prompts=240)


@pytest.fixture(scope="module")
def built(file, tmp_path_factory):
    """A fine-tuned reward and the folder that it was built in."""
    reward = artifact(file)
    return reward, store(tmp_path_factory.mktemp("built")).ensure(reward)


def row(text: str, prompt: str = "Day 0:", stored: float | None = None, number: int = 0, group: str = "0" * 16) -> Row:
    return Row(f"train-{number}", group, prompt, text, stored)


def new_rows(count: int = 200) -> list[Row]:
    """Other responses, with the space before them that a task adds."""
    rng = random.Random(1)
    return [row("".join(f" {rng.choice(WORDS)}" for _ in range(4)), f"Day {i}:") for i in range(count)]


def test_the_losses_of_each_objective_worked_by_hand():
    scores, unit = torch.tensor([0.5, -1.0, 2.0, 0.0, 1.0], dtype=torch.float64), torch.tensor([0, 0, 0, 1, 1])
    targets = torch.tensor([1.0, 0.0, 0.0, 1.0, 0.0], dtype=torch.float64)
    assert_close(OBJECTIVES[Goal.regression].losses(scores, targets, unit), (scores - targets) ** 2)
    # of three responses the first is better than both others: ½ [−ln σ(1.5) − ln σ(−1.5)]; of two: −ln σ(−1)
    expected = [-(np.log(expit(1.5)) + np.log(expit(-1.5))) / 2, -np.log(expit(-1.0))]
    assert_close(OBJECTIVES[Goal.pairs].losses(scores, targets, unit), torch.tensor(expected))
    p = expit(scores.numpy())
    expected = -np.where(targets.numpy() == 1, np.log(p), np.log(1 - p))
    assert_close(OBJECTIVES[Goal.labels].losses(scores, targets, unit), torch.tensor(expected))
    # the best constants: 0 of standardized ratings and of differences, ln (p / (1 − p)) of labels
    assert [OBJECTIVES[goal].best_constant(np.array([1.0, 0, 0, 0])) for goal in Goal] == pytest.approx([0, 0, np.log(1 / 3)])


def test_pairs_are_units_of_prompts_whose_responses_differ_in_their_ratings():
    rows = [row("", group=group) for group in "abacbc"]
    units = OBJECTIVES[Goal.pairs].units(rows, np.array([1.0, 2, 1, 3, 4, 0]))
    assert [unit.tolist() for unit in units] == [[1, 4], [3, 5]]


def test_every_epoch_draws_each_unit_once_in_an_order_of_its_own():
    steps = [drawn(10, 4, seed=3, step=step) for step in range(5)]
    order = [unit for step in steps for unit in step]
    assert sorted(order[:10]) == sorted(order[10:]) == list(range(10))
    assert order[:10] != order[10:]
    assert drawn(10, 4, seed=3, step=2) == steps[2]
    assert drawn(10, 4, seed=4, step=2) != steps[2]


def test_a_decoder_reads_prompt_response_and_end_and_a_prompt_is_cut_on_the_left():
    ids = lambda text: tokenizer()(text, add_special_tokens=False)["input_ids"]  # noqa: E731
    rows = [row(" Good bread.", "How do I bake bread?"), row(" Mix flour, water and salt, then wait.", "Bake?")]
    whole, cut = Reader(tokenizer(), 50, 50).read(rows)
    assert whole == [[1, *ids(r.prompt), *ids(r.response), 2] for r in rows]
    assert cut.tolist() == [[0, 0], [0, 0]]
    short, cut = Reader(tokenizer(), 4, 5).read(rows)
    assert short[0] == [1, *ids(rows[0].prompt)[-3:], *ids(rows[0].response)[:5]]
    assert cut[1, 1] == len(ids(rows[1].response)) - 5
    assert (cut[0] > 0).all()


def test_a_simple_function_of_the_text_is_learned_on_prompts_that_were_not_seen(built):
    reward, folder = built
    rows = new_rows()
    true = np.array([rating(row.response) for row in rows])
    scores = reward.reward.scorer(folder).score(rows)
    assert spearmanr(scores, true).statistic >= 0.8
    assert 0 < scores.min() < 0.3 < 0.7 < scores.max() < 1
    predicted = reward.reward.raw().scorer(folder).score(rows)  # on the scale of the ratings
    assert 1 - ((predicted - true) ** 2).mean() / true.var() >= 0.6
    skill = json.loads((folder / "skill.json").read_text())
    assert skill["rank_correlation"] >= 0.8
    assert skill["pair_accuracy"] >= 0.75
    assert skill["held_out_rows"] > 20


def test_scores_depend_on_neither_batch_nor_order(built):
    reward, folder = built
    rows = [*new_rows(20), row("", ""), row("sun " * 60)]
    scorer = reward.reward.scorer(folder)
    together, alone = scorer.score(rows), [scorer.score([row])[0] for row in rows]
    np.testing.assert_allclose(together, alone, atol=1e-6)
    assert scorer.cut(rows)[:-1].sum() == 0
    assert scorer.cut(rows)[-1] > 0


def test_the_counterpart_is_another_model_of_the_other_prompts(built, file):
    reward = built[0].reward
    other = reward.held_out()
    assert (other.prompts, other.label) == (Prompts.second_half, "finetuned_second_half")
    assert other.seed != reward.seed
    assert other.held_out() == reward
    assert composed(*TINY, "reward.prompts=all").reward.held_out() is None
    rows = [row("", group=f"{i:016}") for i in range(50)]
    halves = [Prompts.first_half.of(rows), Prompts.second_half.of(rows)]
    assert sorted(row.group for half in halves for row in half) == [row.group for row in rows]
    assert all(halves)
    judge = Pipeline(composed("task=local", f"task.path={file}", *TINY)).test_scored_by
    assert judge.reward == other
    assert judge.fitted.fingerprint != built[0].fingerprint


@pytest.mark.parametrize("steps", [1, 25])
def test_a_run_that_was_stopped_goes_on_to_the_same_bits(built, tmp_path, steps, monkeypatch):
    reward, folder = built
    stopped = store(tmp_path)
    for needed in reward.inputs().values():
        stopped.ensure(needed)
    left = iter(range(steps))  # looked at before the build, and after each step
    monkeypatch.setattr(Stopper, "requested", property(lambda self: next(left, None) is None))
    with pytest.raises(Interrupted):
        stopped.ensure(reward)
    monkeypatch.undo()
    (checkpoint,) = tmp_path.glob("fitted-reward/*.partial/checkpoints/update-*")
    assert checkpoint.name == f"update-{steps:07}"
    assert files(store(tmp_path).ensure(reward)) == files(folder)


def test_a_damaged_checkpoint_is_passed_over_and_a_damaged_model_is_refused(built, tmp_path):
    reward, folder = built
    copied = Path(shutil.copytree(folder.parents[1], tmp_path / "copied"))
    place = copied / folder.relative_to(folder.parents[1])
    partial = place.rename(place.with_name(f"{place.name}.partial"))
    (partial / "manifest.json").unlink()
    weights = next(partial.glob("checkpoints/update-*/weights.safetensors"))
    flip(weights)
    assert damage_of_checkpoint(partial, weights.parent) == "weights.safetensors was changed (its checksum differs)"
    again = store(copied).ensure(reward)
    assert "no checkpoint is whole: training starts again" in (again / "log.txt").read_text()
    assert files(again) == files(folder)
    flip(again / "model" / "model.safetensors")
    with pytest.raises(UserError, match=r"is damaged: model/model\.safetensors was changed"):
        store(copied).ensure(reward)
    (again / "scale.json").write_text('{"shift": 1}')
    with pytest.raises(UserError, match=r"scale\.json the object has no scale"):
        reward.reward.scorer(again)


def rated(count: int, rate) -> list[Row]:
    """Rows of ``count`` prompts with two responses each, whose rating is a function of the place of prompt and response."""
    return [row(f"text {k}", f"{i}", rate(i, k), 2 * i + k, prompt_key(f"{i}")) for i in range(count) for k in range(2)]


REFUSED = {
    "the same rating everywhere": (rated(80, lambda i, k: 4.0), "regression", "has nothing to learn: .* responses are all 4"),
    "few prompts": (rated(20, lambda i, k: k), "regression", r"has too few prompts to learn from: \d+, and needs 20"),
    "no pairs": (rated(80, lambda i, k: i % 5), "pairs", r"has nothing to compare: of \d+ prompts none has two responses"),
    "few pairs": (rated(80, lambda i, k: k * (i < 20)), "pairs", r"has too few prompts to learn from: \d+, and"),
    "ratings as labels": (rated(80, lambda i, k: k / 2), "labels", r"labels expected a stored label of 0 or 1, got 0\.5"),
    "one label": (rated(80, lambda i, k: 1.0), "labels", "has nothing to learn"),
}


@pytest.mark.parametrize(("rows", "objective", "why"), REFUSED.values(), ids=REFUSED)
def test_ratings_that_cannot_be_learned_from_are_refused(rows, objective, why):
    with pytest.raises(UserError, match=why):
        Ratings.of(replace(composed(*TINY).reward, objective=Goal[objective]), rows)


def test_labels_of_held_out_prompts_are_checked_before_training(file, tmp_path, monkeypatch):
    rows = {"train": rated(80, lambda i, k: k), "validation": rated(3, lambda i, k: 2 * k)}
    monkeypatch.setattr(finetuned_reward, "rows_to_fit", lambda job, data, split: rows[split])
    monkeypatch.setattr(FinetunedReward, "_train", lambda *_: pytest.fail("it was trained"))
    with pytest.raises(UserError, match="labels expected a stored label of 0 or 1, got 2"):
        store(tmp_path).ensure(artifact(file, "reward.objective=labels"))


def test_data_without_ratings_is_refused_and_its_columns_are_named(tmp_path):
    with pytest.raises(
        UserError, match=r"(?s)no response of the train split has a stored reward.*Columns of the data: prompt, res"
    ):
        store(tmp_path / "out").ensure(artifact(written(tmp_path, rate=None)))


def test_options_that_contradict_each_other_are_refused():
    with pytest.raises(UserError, match=r"may read 1017 tokens .* but its model reads at most 512"):
        composed(*TINY, "reward.body.context=512", "reward.max_prompt_tokens=1000")
    saved = ["reward=finetuned_pretrained", "reward.body.path=gpt2"]
    with pytest.raises(UserError, match="starts from a model without an adapter"):
        composed(*saved, "reward.body.adapter=mine")
    with pytest.raises(UserError, match="rewards are fine-tuned in 16 or 32 bits"):
        composed(*saved, "reward.body.quantization=nf4")


@pytest.mark.slow
def test_what_matters_is_in_the_recipe_and_where_a_model_lies_is_not(file):
    first = artifact(file)
    changed = ("objective=pairs", "seed=2", "epochs=4", "body.layers=2", "optimizer.lr=1e-4", "max_prompt_tokens=17")
    found = {artifact(file, f"reward.{option}").fingerprint for option in changed}
    assert len(found | {first.fingerprint}) == len(changed) + 1
    assert artifact(file, "reward.batch_tokens=99", "micro_batch_size=3").fingerprint == first.fingerprint


def read_as(rows: list[Row], **special) -> list[list[int]]:
    words = deepcopy(tokenizer())
    for name, value in special.items():
        setattr(words, name, value)
    return Reader(words, 60, 60).read(rows)[0]


def test_an_encoder_reads_a_separator_behind_prompt_and_response():
    ids = lambda text: tokenizer()(text, add_special_tokens=False)["input_ids"]  # noqa: E731
    (found,) = read_as([row("Mix flour.", "Bake?")], cls_token="<s>", sep_token="</s>")
    assert found == [1, *ids("Bake?"), 2, *ids("Mix flour."), 2]


TEMPLATE = (
    "{% for m in messages %}<s>{{ m.role }}\n{{ m.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
)


def test_a_chat_model_reads_its_template_with_what_the_response_continues():
    words = deepcopy(tokenizer())
    words.chat_template = TEMPLATE
    turns = [{"role": role, "content": text} for role, text in (("system", "Be kind."), ("user", "Bake?"), ("assistant", "Mix"))]
    chat = Row("a", "0" * 16, "whole", " flour.", None, turns)
    plain = Row(
        "b", "0" * 16, "Bake?", "Mix flour.", None, [{"role": "user", "content": "Ba"}, {"role": "user", "content": "ke?"}]
    )
    found, _ = Reader(words, 60, 60).read([chat, plain])
    said = [{"role": "assistant", "content": "Mix flour."}]
    for ids, asked in zip(found, (turns[:2], [{"role": "user", "content": "Bake?"}]), strict=True):
        assert words.decode(ids) == words.decode(words.apply_chat_template([*asked, *said], tokenize=True, return_dict=False))


def saved(folder: Path, model, **special) -> Path:
    words = deepcopy(tokenizer())
    for name, value in special.items():
        setattr(words, name, value)
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def encoder() -> RobertaForMaskedLM:
    """A random encoder with dropout, of states and of attention weights."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    return RobertaForMaskedLM(RobertaConfig(vocab_size=320, max_position_embeddings=140, pad_token_id=0, **sizes))


SHORT = ["reward.epochs=0.5", "reward.optimizer.lr=1e-3", "reward.max_prompt_tokens=16", "reward.max_response_tokens=32"]


def finetuned(file: Path, folder: Path, out: Path, *options: str, runtime: tuple[str, ...] = ()) -> tuple[FinetunedReward, Path]:
    settings = composed(
        "task=local", f"task.path={file}", "reward=finetuned_pretrained", f"reward.body.path={folder}", *SHORT, *options
    )
    reward = FinetunedReward(settings.reward, Data(settings.task))
    return reward, opened(out, composed(*runtime).runtime).ensure(reward)


@pytest.mark.slow
@pytest.mark.parametrize("recompute", ["false", "true"])
def test_an_encoder_is_trained_with_dropout_whatever_the_micro_batches_are(file, tmp_path, recompute):
    folder = saved(tmp_path / "encoder", encoder(), cls_token="<s>", sep_token="</s>", bos_token=None, eos_token=None)
    reward, whole = finetuned(file, folder, tmp_path / "whole")
    runtime = ("micro_batch_size=5", f"gradient_checkpointing={recompute}")
    _, parts = finetuned(file, folder, tmp_path / "parts", runtime=runtime)
    weights = [load_file(place / "model" / "model.safetensors") for place in (whole, parts)]
    assert_close(*weights, atol=2e-5, rtol=1e-4)
    start = encoder().state_dict()
    assert max((weight - start[name]).abs().max() for name, weight in weights[0].items() if name in start) > 1e-3
    scores = reward.reward.scorer(whole).score(new_rows())
    assert np.ptp(scores) > 0


@pytest.mark.slow
@pytest.mark.parametrize(("model", "dtype"), [(llama, "bfloat16"), (gpt2, "float32")])
def test_an_adapter_and_a_head_are_trained_on_a_language_model_and_saved_alone(file, tmp_path, model, dtype):
    folder = saved(tmp_path / "base", model())
    options = ("+adapter@reward.adapter=lora", f"reward.body.dtype={dtype}", "reward.optimizer.lr=3e-2", "reward.epochs=2")
    reward, place = finetuned(file, folder, tmp_path / "out", *options)
    kept = {path.name for path in (place / "model").iterdir()}
    assert {"adapter_model.safetensors", "head.safetensors"} <= kept
    assert "model.safetensors" not in kept
    assert json.loads((place / "skill.json").read_text())["rank_correlation"] > 0.4
    moved = saved(tmp_path / "moved", model())
    assert finetuned(file, moved, tmp_path / "out", *options)[0].fingerprint == reward.fingerprint
    assert min(load_file(place / "model" / "adapter_model.safetensors").values(), key=lambda w: w.abs().max()).abs().max() > 0
    flip(place / "model" / "head.safetensors", 0.01)
    with pytest.raises(UserError, match=r"head\.safetensors is not in the safetensors format"):
        reward.reward.scorer(place)


@pytest.mark.slow
def test_a_model_without_a_head_for_texts_is_refused(file, tmp_path):
    torch.manual_seed(0)
    sizes = {"vocab_size": 320, "d_model": 16, "d_ff": 16, "d_kv": 8, "num_layers": 1, "num_heads": 2}
    folder = saved(tmp_path / "other", T5EncoderModel(T5Config(**sizes)))
    with pytest.raises(UserError, match=r"has no weights for \d+ of its parts|cannot be loaded"):
        finetuned(file, folder, tmp_path / "out")


@pytest.mark.slow
def test_a_reward_that_was_killed_twice_ends_with_the_same_bits(tmp_path):
    written(tmp_path, prompts=120)
    command = ["score-rewards", "task=local", "task.path=rows.jsonl", *SMALL, *TINY]
    for pattern in (
        r"/fitted-reward/.*/\.update-0000006\.tmp/\.optimizer\.json",
        r"/fitted-reward/.*/\.update-0000012\.tmp/\.optimizer\.json",
    ):
        quick(tmp_path, *command, die_at=pattern, code=-signal.SIGKILL)
    _, said = quick(tmp_path, *command)
    assert "resumed after step 9 of 19" in said
    quick(tmp_path, *command, "output_dir=other")
    assert contents(tmp_path / "outputs") == contents(tmp_path / "other")


@pytest.mark.slow
def test_two_processes_train_the_same_reward(tmp_path):
    written(tmp_path, prompts=120)
    losses = []
    for count in (1, 2):
        out = f"output_dir=out{count}"
        quick(tmp_path, "score-rewards", "task=local", "task.path=rows.jsonl", *TINY, "threads=1", f"processes={count}", out)
        (records,) = tmp_path.glob(f"out{count}/local/fitted-reward/*/metrics.jsonl")
        losses.append([json.loads(line)["loss"] for line in records.read_text().splitlines()])
    assert len(losses[0]) > 15
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
