from dataclasses import replace
from importlib import import_module, resources
from math import exp, log
from pathlib import Path

import pytest
import torch
import yaml
from hydra import compose, initialize_config_module
from tiny import composed
from torch.testing import assert_close

from aloll_cli.cli.validation import register
from aloll_cli.errors import UserError
from aloll_cli.schema import name_of
from aloll_cli.settings.groups import GROUPS
from aloll_cli.settings.root import Settings
from aloll_cli.training.contracts import checked_loss
from aloll_cli.variants.alol import Alol
from aloll_cli.variants.base import Batch, Signal, Variant
from aloll_cli.variants.kl import Estimator, Kl
from aloll_cli.variants.nll import Nll
from aloll_cli.variants.r_gold import RGold
from aloll_cli.variants.r_lol import RLol
from aloll_cli.variants.ref_free import RefFree
from aloll_cli.variants.seq import Seq
from aloll_cli.variants.wbc import Wbc

EIGHT = [
    Nll(), Wbc(), RGold(floor=0.1), RLol(clip=0.9), Alol(clip=0.9), RefFree(), Seq(clip=0.9),
    Kl(beta=0.5, estimator=Estimator.k1),
]  # fmt: skip
WITH_RATIO = [Alol(clip=0.9), RLol(clip=0.9), Seq(clip=0.9), Kl(beta=0.5, estimator=Estimator.k2)]

# two responses of two tokens: ln r = (0, 1) and (−0.5, −0.5), so ρ = e and e⁻¹; weights 2 and 0.5
LOGPS = [[-1.0, -2.0], [-0.5, -3.0]]
BEHAVIOUR = [[-1.0, -3.0], [0.0, -2.5]]
WEIGHTS = [2.0, 0.5]


def batch(logps=LOGPS, behaviour=BEHAVIOUR, weights=WEIGHTS):
    count = len(weights)
    return Batch(
        logps=torch.tensor(logps, requires_grad=True),
        behaviour_logps=None if behaviour is None else torch.tensor(behaviour),
        weights=torch.tensor(weights),
        rewards=torch.zeros(count),
        group=torch.arange(count),
        mask=torch.tensor(logps) != 0,
    )


def loss_and_gradient(variant, given):
    loss = variant.loss(given)
    (gradient,) = torch.autograd.grad(loss.sum(), given.logps)
    return loss.detach(), gradient


@pytest.mark.parametrize(
    ("variant", "losses", "gradients"),
    [
        # −Σ ln π
        (Nll(), [3.0, 3.5], [[-1, -1], [-1, -1]]),
        # −R Σ ln π
        (Wbc(), [6.0, 1.75], [[-2, -2], [-0.5, -0.5]]),
        # −R Σ max(π, 0.1) ln π: π = e⁻¹, e⁻² above the floor, e⁻⁰·⁵ above it, e⁻³ = 0.0498 below it
        (
            RGold(floor=0.1),
            [2 * (exp(-1) + 2 * exp(-2)), 0.5 * (0.5 * exp(-0.5) + 3 * 0.1)],
            [[-2 * exp(-1), -2 * exp(-2)], [-0.5 * exp(-0.5), -0.05]],
        ),
        # −R clip(ρ) Σ ln π: ρ = e clipped to 1.9, and e⁻¹
        (RLol(clip=0.9), [2 * 1.9 * 3, 0.5 * exp(-1) * 3.5], [[-3.8, -3.8], [-0.5 * exp(-1)] * 2]),
        (Alol(clip=0.9), [2 * 1.9 * 3, 0.5 * exp(-1) * 3.5], [[-3.8, -3.8], [-0.5 * exp(-1)] * 2]),
        (Alol(clip=None), [2 * exp(1) * 3, 0.5 * exp(-1) * 3.5], [[-2 * exp(1)] * 2, [-0.5 * exp(-1)] * 2]),
        # −A⁺ Σ ln π
        (RefFree(), [6.0, 1.75], [[-2, -2], [-0.5, -0.5]]),
        # −A⁺ Σ clip(r_t) ln π: r = 1, e clipped to 1.9; e⁻⁰·⁵ twice
        (Seq(clip=0.9), [2 * (1 + 1.9 * 2), 0.5 * exp(-0.5) * 3.5], [[-2, -3.8], [-0.5 * exp(-0.5)] * 2]),
        (Seq(clip=None), [2 * (1 + exp(1) * 2), 0.5 * exp(-0.5) * 3.5], [[-2, -2 * exp(1)], [-0.5 * exp(-0.5)] * 2]),
        # ε = 0.2 clips from below too: e⁻⁰·⁵ = 0.607 becomes 0.8
        (Seq(clip=0.2), [2 * (1 + 1.2 * 2), 0.5 * 0.8 * 3.5], [[-2, -2.4], [-0.4, -0.4]]),
        # −(A⁺ − β) Σ ln π: with β = 1 the second response is pushed down
        (Kl(beta=1.0, estimator=Estimator.k1), [3.0, -1.75], [[-1, -1], [0.5, 0.5]]),
        # −A⁺ Σ ln π + β ½ Σ (ln r)²
        (Kl(beta=1.0, estimator=Estimator.k2), [6 + 0.5, 1.75 + 0.25], [[-2, -2 + 1], [-0.5 - 0.5, -0.5 - 0.5]]),
    ],
)  # fmt: skip
def test_loss_and_gradient_are_those_worked_by_hand(variant, losses, gradients):
    loss, gradient = loss_and_gradient(variant, batch())
    assert_close(loss, torch.tensor(losses))
    assert_close(gradient, torch.tensor(gradients, dtype=torch.float32))


def test_k1_has_the_gradient_of_advantage_minus_beta_so_it_never_pulls_to_the_reference():
    beta = 0.7
    _, k1 = loss_and_gradient(Kl(beta=beta, estimator=Estimator.k1), batch())
    _, shifted = loss_and_gradient(RefFree(), batch(weights=[w - beta for w in WEIGHTS]))
    assert_close(k1, shifted)
    _, elsewhere = loss_and_gradient(Kl(beta=beta, estimator=Estimator.k1), batch(behaviour=[[-9.0, -9.0], [-9.0, -9.0]]))
    assert torch.equal(k1, elsewhere)


def test_k2_adds_beta_log_ratio_to_the_gradient_so_it_pulls_to_the_reference():
    beta = 0.7
    _, k2 = loss_and_gradient(Kl(beta=beta, estimator=Estimator.k2), batch())
    _, free = loss_and_gradient(RefFree(), batch())
    assert_close(k2 - free, beta * (torch.tensor(LOGPS) - torch.tensor(BEHAVIOUR)))


def test_kl_without_beta_is_ref_free():
    for estimator in Estimator:
        ours = loss_and_gradient(Kl(beta=0.0, estimator=estimator), batch())
        assert_close(ours, loss_and_gradient(RefFree(), batch()))


def test_seq_ref_free_and_alol_agree_where_the_policy_is_the_reference():
    same = batch(behaviour=LOGPS)
    expected = loss_and_gradient(RefFree(), same)
    for variant in (Alol(clip=0.9), Alol(clip=None), Seq(clip=0.9), Seq(clip=None), Kl(beta=0.3, estimator=Estimator.k2)):
        loss, gradient = loss_and_gradient(variant, same)
        assert torch.equal(loss, expected[0]), variant
        assert torch.equal(gradient, expected[1]), variant


def test_r_lol_agrees_with_wbc_where_the_policy_is_the_reference():
    same = batch(behaviour=LOGPS)
    assert_close(loss_and_gradient(RLol(clip=0.9), same), loss_and_gradient(Wbc(), same), rtol=0, atol=0)


@pytest.mark.parametrize("variant", WITH_RATIO, ids=name_of)
def test_ratios_vary_once_the_policy_moved_away_from_the_stored_reference(variant):
    at_start = batch(behaviour=LOGPS).log_ratio
    moved = batch(logps=[[-0.9, -2.2], [-0.8, -2.0]], behaviour=LOGPS)
    assert torch.equal(at_start.exp(), torch.ones(2, 2))
    assert_close(moved.log_ratio, torch.tensor([[0.1, -0.2], [-0.3, 1.0]]))
    # with every ratio stuck at 1 the loss would be that of the same log-probs against themselves
    stuck = replace(moved, behaviour_logps=moved.logps.detach())
    assert (variant.loss(moved) - variant.loss(stuck)).abs().min() > 1e-3


def test_the_ratio_is_a_weight_and_carries_no_gradient():
    assert not batch().log_ratio.requires_grad


@pytest.mark.parametrize("variant", [*EIGHT, Kl(beta=0.5, estimator=Estimator.k2)], ids=name_of)
def test_padding_adds_nothing_to_loss_or_gradient(variant):
    padded = batch([[*row, 0.0, 0.0, 0.0] for row in LOGPS], [[*row, 0.0, 0.0, 0.0] for row in BEHAVIOUR])
    loss, gradient = loss_and_gradient(variant, padded)
    expected = loss_and_gradient(variant, batch())
    assert_close((loss, gradient[:, :2]), expected)


def test_clip_fraction_does_not_depend_on_padding():
    short = batch([[-1.0, -2.0]], [[-1.0, -4.0]], [1.0])
    padded = batch([[-1.0, -2.0, 0.0, 0.0]], [[-1.0, -4.0, 0.0, 0.0]], [1.0])
    assert Seq(clip=0.9).metrics(short)["clip_fraction"].tolist() == [0.5]
    assert Seq(clip=0.9).metrics(padded)["clip_fraction"].tolist() == [0.5]


def test_clip_fraction_counts_tokens_under_seq_and_whole_responses_under_alol():
    # token ratios 1, e | e⁻⁰·⁵, e⁻⁰·⁵; response ratios e, e⁻¹
    assert Seq(clip=0.9).metrics(batch())["clip_fraction"].tolist() == [0.5, 0.0]
    assert Seq(clip=0.2).metrics(batch())["clip_fraction"].tolist() == [0.5, 1.0]
    assert Alol(clip=0.9).metrics(batch())["clip_fraction"].tolist() == [1.0, 0.0]
    assert RLol(clip=0.2).metrics(batch())["clip_fraction"].tolist() == [1.0, 1.0]
    for variant in (Seq(clip=None), Alol(clip=None), RLol(clip=None)):
        assert variant.metrics(batch())["clip_fraction"].tolist() == [0.0, 0.0]


def test_kl_counts_the_responses_that_it_pushes_down():
    assert Kl(beta=1.0, estimator=Estimator.k1).metrics(batch())["below_beta"].tolist() == [0.0, 1.0]


def test_the_reference_is_needed_exactly_where_the_loss_reads_it():
    for variant in [*EIGHT, *WITH_RATIO]:
        if variant.needs_behaviour:
            continue
        assert torch.isfinite(variant.loss(batch(behaviour=None))).all(), variant
    assert {name_of(v) for v in [*EIGHT, *WITH_RATIO] if v.needs_behaviour} == {"alol", "seq", "r_lol", "kl"}
    assert not Kl(beta=0.5, estimator=Estimator.k1).needs_behaviour


def test_each_variant_is_weighted_by_what_the_paper_says():
    by_signal = {signal: {name_of(v) for v in EIGHT if v.signal is signal} for signal in Signal}
    assert by_signal == {
        Signal.none: {"nll"},
        Signal.reward: {"wbc", "r_gold", "r_lol"},
        Signal.advantage: {"alol", "ref_free", "seq", "kl"},
    }


CONF = Path(str(resources.files("aloll_cli.conf")))
# base/ holds what choices start from, and is no group; hydra/launcher is about sweeps (test_launchers.py)
YAMLS = sorted(
    name
    for f in CONF.rglob("*.yaml")
    if not (name := f.relative_to(CONF).with_suffix("").as_posix()).startswith(("base/", "hydra/"))
)
NEEDS = {  # beside the options that a file leaves to the user, which are read from it
    "adapter/pretrained": ["model=pretrained", "model.path=gpt2", "model.adapter=FOLDER"],
    "reward/mixed": ["+reward@reward.parts.mood.reward=vader"],
    "task/local": ["task.path=FILE.jsonl"],
    "model/pretrained": ["model.path=gpt2"],
    "reference/pretrained": ["model=pretrained", "model.path=gpt2"],
    "reward/column": ["values=data"],
    "reward/finetuned_lora": ["reward.body.path=gpt2"],
    "reward/finetuned_pretrained": ["reward.body.path=gpt2"],
    "reward/http": ["reward.url=http://localhost:8000/score"],
    "reward/llm": ["reward.url=http://localhost:8000/v1"],
    "judge/llm": ["judge.url=http://localhost:8000/v1"],
    "experiment/paper_comet": ["model.path=FOLDER", "reward.path=FOLDER"],
    "model/gpt2_xl_comet": ["model.path=FOLDER"],
    "reference/sft": ["model=pretrained", "model.path=gpt2"],
    "reference/sft_qlora": ["model=pretrained", "model.path=gpt2", "adapter=qlora"],
}


def test_every_variant_is_worked_by_hand_somewhere():
    pairs = {"dpo", "dpo_ref_free", "pro", "ipo", "rebel", "infonca", "nca"}  # tests/test_preferences.py
    regressions = {"awr", "topr", "dro", "a_star", "qrpo", "kto"}  # tests/test_regressions.py
    online = {"ppo", "rloo", "grpo"}  # tests/test_ppo.py
    assert {name_of(variant) for variant in EIGHT} | pairs | regressions | online == set(GROUPS["variant"])
    assert all(issubclass(cls, Variant) for cls in GROUPS["variant"].values())


@pytest.mark.parametrize("group", ["variant", "task", "reward", "values"])
def test_class_module_and_yaml_carry_one_name(group):
    package = f"aloll_cli.{group.removesuffix('s')}s"
    modules = {file.stem for file in Path(import_module(package).__file__).parent.glob("*.py")} - {
        "__init__",
        "base",
        "source",
        "text_models",
        "reddit",
        "grounded",
        "atomic2020",
        "selection",
        "scoring",
        "fitting",
        "forms",
        "form",
        "batch",
        "remarks",
        "repeated",
        "templates",
        "arrow_times",
        "arrow_floats",
        "whole_chats",
        "local_reading",
        "json_array",
        "layouts",
        "readers",
        "turns",
        "seam",
        "splits",
        "column_names",
        "asked",
        "labels",
        "regression",
        "tfidf",
        "variation",
        "options",
        "objectives",
        "ratings",
        "reading",
        "skill",
    }
    assert modules
    assert modules == set(GROUPS[group])
    for name, cls in GROUPS[group].items():
        assert name_of(cls) == name
        assert cls.__module__ == f"{package}.{name}"
        assert f"{group}/{name}" in YAMLS
        assert f"/schema/{group}/{name}@" in (CONF / group / f"{name}.yaml").read_text()


def left_to_the_user(name):
    options = yaml.safe_load((CONF / f"{name}.yaml").read_text()) or {}
    return [f"{name.rpartition('/')[0]}.{key}=GIVEN" for key, value in options.items() if value == "???"]


@pytest.mark.parametrize(
    "name",
    [
        name if name.startswith("variant/") else pytest.param(name, marks=pytest.mark.slow)  # as many again as all others
        for name in YAMLS
        if "/" in name
    ],
)
def test_every_yaml_file_composes_into_checked_settings(name):
    group, _, choice = name.rpartition("/")
    settings = composed(f"{group}={choice}", *left_to_the_user(name), *NEEDS.get(name, []))
    if group in GROUPS and choice in GROUPS[group]:
        assert type(getattr(settings, group)) is GROUPS[group][choice]


def test_no_yaml_file_is_left_out_of_that():
    assert "config" in YAMLS
    assert composed().variant == Seq(clip=0.9)
    assert {name.partition("/")[0] for name in YAMLS if "/" in name} == {*GROUPS, "experiment"}


def test_every_declared_entry_has_a_yaml_that_starts_from_its_schema():
    register(Settings, GROUPS)
    for group, entries in GROUPS.items():
        texts = "".join(file.read_text() for file in (CONF / group).glob("*.yaml"))
        assert not [name for name in entries if f"/schema/{group}/{name}@" not in texts]


def test_a_yaml_with_a_key_that_the_schema_lacks_does_not_compose(tmp_path):
    (tmp_path / "variant").mkdir()
    text = 'defaults: ["/schema/variant/seq@_here_"]\nclip: 0.9\nclipp: 0.2\n'
    (tmp_path / "variant" / "typo.yaml").write_text(text)
    register(Settings, GROUPS)
    with initialize_config_module("aloll_cli.conf", version_base=None), pytest.raises(Exception, match="clipp"):
        compose("config", [f"hydra.searchpath=[file://{tmp_path}]", "variant=typo"])


def test_log_probs_of_certain_tokens_cost_nothing():
    sure = batch([[0.0, log(0.5)]], [[0.0, log(0.5)]], [1.0])
    assert_close(Nll().loss(sure), torch.tensor([log(2)]))


def test_a_loss_of_another_shape_than_one_per_unit_is_refused():
    class PerToken(Nll):
        def loss(self, batch):
            return -batch.logps

    batch = Batch(torch.zeros(2, 3), None, torch.ones(2), torch.ones(2), torch.arange(2), torch.ones(2, 3))
    assert checked_loss(Nll(), batch, 2).shape == (2,)
    with pytest.raises(UserError, match=r"returned a loss of shape \(2, 3\); expected \(2,\), one per unit"):
        checked_loss(PerToken(), batch, 2)
