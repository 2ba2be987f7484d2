import json
from dataclasses import fields, is_dataclass
from functools import cache

import pytest
import yaml
from tiny import composed, gpt2, reviews, some_slow, store, tokenizer

from aloll_cli.artifacts.pipeline import Pipeline
from aloll_cli.schema import fingerprint, from_plain, identity, plain
from aloll_cli.settings.root import Settings

OPERATIONAL = {
    "processes": "processes=2",
    "strategy": "strategy=fsdp",
    "threads": "threads=1",
    "micro_batch_size": "micro_batch_size=3",
    "gradient_checkpointing": "gradient_checkpointing=true",
    "deterministic": "deterministic=true",
    "device": "device=cpu",
    "attn": "attn=eager",
    "merge": "merge=false",
    "scoring_batch_tokens": "scoring_batch_tokens=500",
    "generation_batching": "generation_batching=continuous",
    "checkpoint_every": "checkpoint_every=7",
    "keep_checkpoints": "keep_checkpoints=3",
    "max_hours": "max_hours=0.5",
    "tracking": "tracking=wandb",
    "prompt": "prompt=Hi",
    "prompts": "prompts=-",
    "first": "first=3",
    "max_tokens": "max_tokens=7",
    "score": "score=false",
    "side_by_side": "side_by_side=true",
    "where": "where=[elsewhere]",
    "sort": "sort=gain",
    "run": "run=elsewhere",
    "runs": "runs=[elsewhere]",
    "against": "against=nll",
    "best_of": "best_of=optimizer.lr",
    "output_dir": "output_dir=elsewhere",
    "plugins": "plugins=[elsewhere]",
    "upstream": "upstream=require",
    "busy": "busy=refuse",
    "to": "to=elsewhere",
    "push": "push=owner/elsewhere",
    "figures": "figures=elsewhere",
    "ask": "ask=false",
    "repair": "repair=true",
    "estimate": "estimate=true",
    "format": "format=json",
    "judge": "judge=reward",
    "rubric": "rubric=better",
    "votes": "votes=[votes.json]",
    "verbosity": "verbosity=quiet",
    "model.head": "model.head=chunked",
    "generation.server_model": "generation.server_model=name",
    "generation.server_requests": "generation.server_requests=2",
}
SERVER = "generation.server=http://localhost:8000"
PARTS = ("data", "tokenizer", "examples", "reference", "values", "every_reference_logps", "policy", "metrics")


def fingerprints(*overrides):
    line = Pipeline(composed(*overrides))
    found = {part: getattr(line, part).fingerprint for part in PARTS} | {"rewards": line.rewards().fingerprint}
    return found | ({"fitted": line.scored_by.fitted.fingerprint} if line.scored_by.fitted else {})


@cache
def default():
    """The default settings, plain, and their fingerprints."""
    return plain(composed()), fingerprints()


def changed(before, after):
    return {part for part in before.keys() & after.keys() if before[part] != after[part]}


def operational_fields(value, prefix=""):
    for f in fields(value):
        if f.metadata.get("identity") is False:
            yield prefix + f.name
        elif is_dataclass(getattr(value, f.name)):
            yield from operational_fields(getattr(value, f.name), f"{prefix}{f.name}.")


def test_the_operational_fields_are_those_tested_here():
    assert set(operational_fields(composed())) == {*OPERATIONAL, "task.path", "generation.server"}


@pytest.mark.parametrize("override", some_slow(OPERATIONAL.values()))
def test_an_operational_field_changes_no_fingerprint(override):
    settings, found = default()
    assert plain(composed(override)) != settings
    assert fingerprints(override) == found


def test_that_a_server_generates_is_part_of_what_it_generated_and_its_address_is_not():
    moved = changed(fingerprints("generation=greedy", "values=data"), fingerprints("generation=greedy", "values=data", SERVER))
    assert moved == {"metrics"}
    assert changed(fingerprints(), fingerprints(SERVER)) == {"values", "policy", "metrics"}  # V(x) comes from samples
    assert changed(fingerprints(SERVER), fingerprints("generation.server=[http://a,https://b/v1]")) == set()


def test_the_seed_is_the_policys_alone():
    assert changed(fingerprints(), fingerprints("seed=2")) == {"policy", "metrics"}


def test_the_references_seed_is_everything_downstream_of_it():
    moved = changed(fingerprints(), fingerprints("reference.seed=2"))
    assert moved == {"reference", "values", "every_reference_logps", "policy", "metrics"}


def test_the_reward_changes_what_it_weighs_and_not_the_reference():
    for other in ("reward=fitted", "reward=fitted_characters"):
        assert changed(fingerprints(), fingerprints(other)) == {"rewards", "values", "policy", "metrics"}


@pytest.mark.slow
def test_rewards_without_a_state_of_their_own_differ_too():
    stored = fingerprints("values=data", "reward=column")
    for other in (("reward=vader",), ("reward=column", "reward.transform=sigmoid"), ("reward=column", "reward.hi=5")):
        assert changed(stored, fingerprints("values=data", *other)) == {"rewards", "values", "policy", "metrics"}


def test_a_number_of_the_reward_is_part_of_its_state():
    moved = changed(fingerprints("reward=fitted"), fingerprints("reward=fitted", "reward.alpha=2"))
    assert moved == {"fitted", "rewards", "values", "policy", "metrics"}


@pytest.mark.parametrize(
    "override",
    some_slow(["task.responses=first", "task.noise=0.2", "task.min_reward=0", "task.max_reward=0", "task.subsets=[a]",
     "task.max_prompt_tokens=9", "task.max_response_tokens=9"]),
)  # fmt: skip
def test_the_choice_and_the_cut_of_responses_leave_data_tokenizer_and_fitted_reward_alone(override):
    moved = changed(fingerprints("reward=fitted"), fingerprints("reward=fitted", override))
    assert not moved & {"data", "tokenizer", "fitted"}
    assert {"examples", "rewards", "reference", "values", "policy"} <= moved


def test_what_is_read_of_the_rows_changes_the_data():
    assert changed(fingerprints(), fingerprints("task.on_bad_row=skip")) == {*PARTS, "rewards"}


@pytest.mark.parametrize(
    "override",
    some_slow([
        "variant=ref_free", "variant.clip=0.5", "sampling=uniform", "optimizer.lr=1e-5", "optimizer.warmup_updates=3",
        "updates=7", "batch_size=8", "eval_every=7", "eval_prompts=7", "select=last", "select.kl_weight=0.1",
        "select.max_repeated=0.1", "early_stop=3", "weight_loss=false", "reduction=mean", "variant=pro",
    ]),
)  # fmt: skip
def test_what_a_policy_is_trained_with_changes_the_policy_alone(override):
    assert changed(fingerprints(), fingerprints(override)) == {"policy", "metrics"}


def drawn(*overrides):
    """The fingerprint of the log-probs of what a run draws."""
    return Pipeline(composed(*overrides)).reference_logps.fingerprint


@pytest.mark.parametrize(
    "override",
    ["seed=2", "updates=7", "batch_size=8", "sampling=uniform", "clamp=false", "values=data", "reward=fitted", "variant=dpo",
     "reference.seed=2"],
)  # fmt: skip
def test_what_decides_the_rows_that_are_drawn_is_part_of_their_log_probs(override):
    assert drawn(override) != drawn()


@pytest.mark.parametrize(
    "override", ["variant=alol", "variant.clip=0.5", "optimizer.lr=1e-5", "weight_loss=false", "select=last"]
)
def test_runs_that_draw_the_same_rows_share_their_log_probs(override):
    assert drawn(override) == drawn()


@pytest.mark.slow
def test_values_by_samples_of_the_training_prompts_do_not_depend_on_how_policies_are_judged():
    own = ("values=monte_carlo",)
    assert changed(fingerprints(*own), fingerprints(*own, "generation=greedy")) == {"policy", "metrics"}
    assert changed(fingerprints(*own), fingerprints(*own, "values.seed=2")) == {"values", "policy", "metrics"}
    assert changed(fingerprints(), fingerprints("generation.samples=2")) == {"values", "policy", "metrics"}


@pytest.mark.parametrize("override", ["split=validation", "resamples=7", "references=all", "reward@test_reward=fitted"])
def test_how_a_policy_is_judged_at_the_end_changes_the_metrics_alone(override):
    assert changed(fingerprints(), fingerprints(override)) == {"metrics"}


@pytest.mark.slow
def test_a_variant_has_the_inputs_that_its_loss_reads():
    roles = {name: set(Pipeline(composed(f"variant={name}")).policy.inputs()) for name in ("nll", "wbc", "ref_free", "kl", "seq")}
    assert roles["nll"] == {"start", "examples"}
    assert roles["wbc"] == {"start", "examples", "rewards"}
    assert roles["ref_free"] == roles["kl"] == {"start", "examples", "rewards", "values"}
    assert roles["seq"] == roles["ref_free"] | {"reference_logps"}
    k2 = Pipeline(composed("variant=kl", "variant.estimator=k2")).policy
    assert set(k2.inputs()) == roles["seq"]


@pytest.mark.slow
def test_baselines_that_weigh_by_reward_need_no_values():
    for name in ("wbc", "r_gold", "r_lol"):
        moved = changed(fingerprints(f"variant={name}"), fingerprints(f"variant={name}", "values=constant"))
        assert moved == {"values"}


def test_a_fingerprint_is_a_hash_of_the_recipe_whatever_the_order_of_its_keys():
    assert fingerprint({"a": 1, "b": [2, None]}) == fingerprint({"b": [2, None], "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})
    assert len(fingerprint({})) == 12


def test_a_recipe_is_made_of_plain_values_and_names_no_path(tmp_path):
    folder = reviews(tmp_path / "rows")
    recipe = json.dumps(Pipeline(composed(f"task.path={folder}")).metrics.recipe)
    assert str(tmp_path) not in recipe


def test_a_pretrained_model_is_known_by_its_content_and_not_by_its_path(tmp_path):
    for place in ("here", "there"):
        gpt2().save_pretrained(tmp_path / place)
        tokenizer().save_pretrained(tmp_path / place)
    found = [fingerprints("model=pretrained", f"model.path={tmp_path / place}") for place in ("here", "there")]
    assert found[0] == found[1]
    gpt2(seed=1).save_pretrained(tmp_path / "there")
    moved = changed(found[0], fingerprints("model=pretrained", f"model.path={tmp_path / 'there'}"))
    assert {"reference", "policy"} <= moved
    assert "data" not in moved


@pytest.mark.slow
def test_settings_survive_being_written_down_and_read_again():
    for overrides in [
        (), ("variant=kl", "variant.estimator=k2"), ("task=hha", "reward@test_reward=vader"), ("reward=column", "values=data"),
        ("reward=column", "reward.transform=none", "reward.lo=-inf", "values=group"), ("updates=null", "epochs=1.5"),
        ("model=pretrained", "model.path=gpt2", "reference=pretrained", "generation=greedy", "tracking=wandb"),
        ("runs=[one,two]", "max_hours=0.5", "optimizer.max_grad_norm=null"),
    ]:  # fmt: skip
        settings = composed(*overrides)
        assert from_plain(Settings, plain(settings)) == settings
        assert from_plain(Settings, yaml.safe_load(yaml.safe_dump(plain(settings)))) == settings
        assert fingerprint(identity(settings)) == fingerprint(identity(from_plain(Settings, plain(settings))))


@pytest.fixture
def made(tmp_path):
    """A store with rows in it, and its artifact."""
    artifact = Pipeline(composed(f"task.path={reviews(tmp_path / 'rows')}")).data
    store(tmp_path / "out").ensure(artifact)
    return tmp_path / "out", artifact


def test_what_was_made_is_reused_and_not_made_again(made):
    root, artifact = made
    folder = store(root).path(artifact)
    before = {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    assert {"manifest.json", "recipe.json", "config.yaml", "log.txt", "train.parquet"} <= before.keys()
    assert store(root).ensure(artifact) == folder
    assert {file.name: file.stat().st_mtime_ns for file in folder.iterdir()} == before


def test_what_has_other_content_is_never_taken_for_what_was_made(made):
    root, artifact = made
    rows = root.parent / "rows" / "train.jsonl"
    rows.write_text(rows.read_text().replace("good", "goad", 1))
    again = Pipeline(composed.__wrapped__(f"task.path={rows.parent}")).data
    assert store(root).path(again) != store(root).path(artifact)
    assert not store(root).is_complete(again)


def test_a_half_made_folder_is_no_artifact(made):
    root, artifact = made
    folder = store(root).path(artifact)
    folder.rename(folder.with_name(folder.name + ".partial"))
    assert not store(root).is_complete(artifact)
    store(root).ensure(artifact)
    assert store(root).is_complete(artifact)
    assert not list(folder.parent.glob("*.partial"))
