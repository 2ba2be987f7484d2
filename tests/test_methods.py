"""All methods but seq, which is all over the tests, go through the same line: killed, resumed, and over two processes."""

from pathlib import Path
from shutil import copytree
from signal import SIGKILL

import pytest
from running import SMALL, quick
from torture import contents

PLAIN = [option for option in SMALL if not option.startswith("values.")]  # for values that are not fitted
ROLLOUT = ["variant.rollout_size=16", "variant.epochs=2"]  # a rollout is learned from in 4 updates
GROUPED = [*ROLLOUT, "variant.samples=4"]
SAMPLED = ["values.samples=2"]
# rloo: as many as batch_size; and a reward that tells its samples apart, where log-ratios alone would be rounding
ONE_STEP = ["variant.rollout_size=8", "variant.samples=4", "reward=length"]
GIVEN = "dro values=constant"
METHODS = {"dpo": [], "ppo": ROLLOUT}
MORE = {
    "dpo_ref_free": [], "pro": [], "ipo": [], "rebel": [], "infonca": [], "nca": [], "awr": [], "topr": [],
    "kto": ["micro_batch_size=3"], "a_star": SAMPLED, "qrpo": SAMPLED, "rloo": ONE_STEP, "grpo": GROUPED,
    "dro": ["values=joint"], GIVEN: ["values=constant"],
}  # fmt: skip
WEIGHTED = {"nll": [], "wbc": [], "r_gold": [], "r_lol": [], "alol": [], "ref_free": [], "kl": []}  # seq: tests/test_resume.py
EVERY = METHODS | MORE | WEIGHTED


def options_of(method: str) -> list[str]:
    own = EVERY[method]
    return [*(PLAIN if any("values" in option for option in own) else SMALL), f"variant={method.split()[0]}", *own]


def of_policies(folder: Path):
    return {name: found for name, found in contents(folder / "outputs").items() if "/policy/" in f"/{name}"}


def losses(folder: Path, method: str) -> list[float]:
    trained = {name: found for name, found in of_policies(folder).items() if f"policy/{method.split()[0]}-" in name}
    (records,) = (found for name, found in trained.items() if name.endswith("metrics.jsonl"))
    return [record["loss"] for record in records]


@pytest.mark.slow
@pytest.mark.parametrize("method", EVERY)
def test_each_killed_in_the_middle_ends_with_the_same_bits(method: str, undisturbed: Path, tmp_path: Path):
    """PPO's checkpoint after update 3 stands inside a rollout, three quarters through."""
    options = options_of(method)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for folder in (whole, broken):
        copytree(undisturbed, folder / "outputs")
    quick(whole, "train", *options)
    quick(broken, "train", *options, die_at=r"/policy/.*/\.update-0000006\.tmp$", code=-SIGKILL)
    quick(broken, "train", *options)
    (log,) = (broken / "outputs").glob(f"reviews/policy/{method.split()[0]}-*/log.txt")
    assert "resumed after step 3 of 12" in log.read_text()
    expected, found = of_policies(whole), of_policies(broken)
    assert found.keys() == expected.keys()
    assert len(found) > 10
    for name in expected:
        assert found[name] == expected[name], name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("dpo", "Fine-tuned by offline RL for the reward `vader` on the logged responses of the task `reviews`"),
        ("ppo", "Fine-tuned by online RL for the reward `vader` on its own responses to the prompts of the task `reviews`"),
    ],
)
def test_the_card_of_an_export_says_what_was_learned_from(method: str, said: str, undisturbed: Path, tmp_path: Path):
    copytree(undisturbed, tmp_path / "outputs")
    quick(tmp_path, "export", *SMALL, f"variant={method}", *METHODS[method], "to=exported")
    card = (tmp_path / "exported" / "README.md").read_text()
    assert said in card
    assert "a-lol" not in card
    assert ("offline-rl" in card) == (method == "dpo")


@pytest.mark.slow
@pytest.mark.parametrize("method", EVERY)
def test_two_processes_have_the_loss_curve_of_one(method: str, undisturbed: Path, tmp_path: Path):
    options = options_of(method)
    for folder, processes in (("one", 1), ("two", 2)):
        copytree(undisturbed, tmp_path / folder / "outputs")
        quick(tmp_path / folder, "train", *options, f"processes={processes}")
    one, two = losses(tmp_path / "one", method), losses(tmp_path / "two", method)
    assert len(one) == 12
    assert two == pytest.approx(one, rel=1e-5, abs=1e-5)  # losses of some 40 nats, which cancel where advantages do
