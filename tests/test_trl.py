"""Losses, gradients and advantages equal those of TRL's own trainers on the same tensors, under the settings that are named here.

TRL's methods are called as they are; a stub stands in for the model, and gives log-probs from a table. Needs the extra ``bench``.
"""

from collections import defaultdict
from types import MethodType, SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch.testing import assert_close

from aloll_cli.values.monte_carlo import log_mean_exp
from aloll_cli.variants.a_star import AStar
from aloll_cli.variants.base import Batch
from aloll_cli.variants.dpo import Dpo
from aloll_cli.variants.grpo import Grpo
from aloll_cli.variants.ipo import Ipo
from aloll_cli.variants.kto import Kto
from aloll_cli.variants.nca import Nca
from aloll_cli.variants.rloo import Rloo

trl = pytest.importorskip("trl", reason="TRL is not installed, which these losses are compared with: pip install -e '.[bench]'")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(trl.__version__ != "1.16.0", reason=f"written for TRL 1.16.0; {trl.__version__} is installed"),
]

PROMPT, LENGTH, ROWS = 3, 5, 8
LENGTHS = [5, 3, 4, 5, 1, 2, 5, 4]
MASK = (torch.arange(LENGTH) < torch.tensor(LENGTHS)[:, None]).long()


def table(seed):
    """(ROWS, LENGTH) log-probs, 0 at padding."""
    return torch.empty(ROWS, LENGTH).uniform_(-2.5, -0.1, generator=torch.Generator().manual_seed(seed)) * MASK


POLICY, REFERENCE, OLD, MISMATCHED, MISMATCHED_REFERENCE = map(table, range(5))
REWARDS = torch.tensor([0.9, 0.2, 0.7, 0.1, 0.3, 0.6, 0.55, 0.0])


def ours(variant, weights, rows=slice(None), **more):
    """Mean loss, and the gradient of the policy's log-probs."""
    logps = POLICY[rows].clone().requires_grad_()
    given = {
        "behaviour_logps": REFERENCE[rows], "weights": weights, "rewards": REWARDS[rows], "group": torch.arange(len(logps)),
        "mask": MASK[rows],
    }  # fmt: skip
    loss = variant.loss(Batch(logps=logps, **given | more)).mean()
    loss.backward()
    return loss.detach(), logps.grad * MASK[rows]


class Model:
    """Stands in for a model with TRL's fused head: gives log-probs from a table by the first token of its input."""

    training = True
    is_gradient_checkpointing = False

    def __init__(self, *tables):
        self.tables = tables

    def __call__(self, input_ids, **options):
        logps = self.tables[int(input_ids[0, 0])]
        padded = torch.cat([torch.zeros(len(logps), PROMPT - 1), logps], dim=1)
        zeros = torch.zeros_like(padded)
        return SimpleNamespace(log_probs=padded, entropy=zeros, mean_logits=zeros, is_top1=zeros.bool())


def trainer(**attributes):
    """As much of a TRL trainer as its methods read."""
    shared = {
        "accelerator": Accelerator(cpu=True), "_metrics": {"train": defaultdict(list)}, "aux_loss_enabled": False, "_tp_size": 1,
        "_total_train_tokens": 0, "model": Model(), "precompute_ref_logps": True,
    }  # fmt: skip
    return SimpleNamespace(**shared | attributes)


def sequences(marker, mask):
    """Inputs of a model: the prompt's first token says which table is meant."""
    ids = torch.full((len(mask), PROMPT + LENGTH), 7)
    ids[:, 0] = marker
    return ids, torch.ones_like(ids), torch.cat([torch.zeros(len(mask), PROMPT, dtype=torch.long), mask], dim=1)


def of_pairs(loss_type, beta):
    """DPOTrainer's loss of four pairs, chosen responses in even rows, and its gradient in our order of rows."""
    order = [*range(0, ROWS, 2), *range(1, ROWS, 2)]
    logps = POLICY[order].requires_grad_()
    ids, attention, completion = sequences(0, MASK[order])
    sums = REFERENCE.sum(dim=1)
    inputs = {
        "input_ids": ids, "attention_mask": attention, "completion_mask": completion,
        "ref_chosen_logps": sums[::2], "ref_rejected_logps": sums[1::2],
    }  # fmt: skip
    own = trainer(
        ld_alpha=None, f_divergence_type="reverse_kl", loss_types=[loss_type], loss_weights=[1.0], beta=beta,
        label_smoothing=0.0, use_weighting=False,
    )  # fmt: skip
    loss = trl.DPOTrainer._compute_loss(own, Model(logps), inputs, False)
    loss.backward()
    gradient = torch.zeros_like(POLICY)
    gradient[order] = logps.grad
    return loss.detach(), gradient * MASK


@pytest.mark.parametrize(
    ("variant", "loss_type", "beta"),
    [
        (Dpo(beta=0.3), "sigmoid", 0.3),
        (Ipo(tau=0.2, per_token=True), "ipo", 0.2),  # TRL takes means over tokens, the paper sums
        (Nca(alpha=1e-3, beta=0.3), "nca_pair", 0.3),  # TRL's target is one-hot: α → 0
    ],
    ids=["dpo", "ipo", "nca"],
)
def test_methods_on_pairs_equal_trls_dpo_trainer(variant, loss_type, beta):
    groups = torch.arange(ROWS) // 2
    best_first = torch.tensor([1.0, 0.0] * (ROWS // 2))
    assert_close(ours(variant, torch.ones(ROWS), group=groups, rewards=best_first), of_pairs(loss_type, beta))


@pytest.mark.parametrize("mismatched", [MISMATCHED / 2, MISMATCHED - MASK], ids=["z > 0", "z = 0"])
def test_kto_equals_trls_kto_trainer(mismatched):
    """TRL's z is the mean of one micro-batch on all devices; here it is that of the same pairs."""
    labels = REWARDS >= 0.5
    logps = POLICY.clone().requires_grad_()
    (ids, attention, completion), (kl_ids, *kl) = sequences(0, MASK), sequences(1, MASK)
    inputs = {
        "input_ids": ids, "attention_mask": attention, "completion_mask": completion, "label": labels, "KL_input_ids": kl_ids,
        "KL_attention_mask": kl[0], "KL_completion_mask": kl[1], "ref_logps": REFERENCE.sum(dim=1),
        "ref_KL_logps": MISMATCHED_REFERENCE.sum(dim=1),
    }  # fmt: skip
    own = trainer(
        calculate_KL=True, loss_type="kto", beta=0.2, desirable_weight=1.3, undesirable_weight=0.8,
    )  # fmt: skip
    own._compute_kl_logps = MethodType(trl.KTOTrainer._compute_kl_logps, own)
    loss = trl.KTOTrainer._compute_loss(own, Model(logps, mismatched), inputs, False)
    loss.backward()
    variant = Kto(beta=0.2, desirable_weight=1.3, undesirable_weight=0.8, threshold=0.5)
    ratios = (mismatched - MISMATCHED_REFERENCE).sum(dim=1)
    assert (ratios.mean() > 0) == (mismatched.min() > MISMATCHED.min())
    found = ours(variant, torch.where(labels, 1.0, -1.0), mismatched_log_ratios=ratios)
    assert_close(found, (loss.detach(), logps.grad * MASK))


def of_rollouts(cls, config, generate, **attributes):
    """The inputs of a loss that a TRL trainer makes of generated responses, four to each of two prompts, and the trainer."""
    policy, reference = Model(), Model()
    own = trainer(
        args=config, model=policy, ref_model=reference, beta=config.beta, num_generations=4, num_generations_eval=4,
        epsilon_low=config.epsilon, epsilon_high=config.epsilon, reward_weights=torch.ones(1), reward_funcs=[None],
        reward_func_names=["reward"], pad_to_multiple_of=None, mask_truncated_completions=False, log_multimodal=False,
        _tokenizer=SimpleNamespace(pad_token_id=0), _logs=defaultdict(lambda: defaultdict(list)),
        _pending_extra_logs={}, _pending_metrics={}, **attributes,
    )  # fmt: skip
    own._logs |= {"prompt": [], "completion": [], "advantages": []}
    own._calculate_rewards = lambda *given: REWARDS[:, None]
    tokens = [[7] * length for length in LENGTHS]
    own._generate = lambda prompts: generate([[1, 2, 3]] * ROWS, tokens, ["text"] * ROWS)
    current = POLICY.clone().requires_grad_()
    own.is_old = True

    def logps(model, *given, **options):
        found = REFERENCE if model is reference else OLD if own.is_old else current
        return found, torch.zeros_like(POLICY), None

    own._get_per_token_logps_and_entropies = logps
    inputs = cls._generate_and_score_completions(own, [{"prompt": "x"}] * ROWS)
    own.is_old = False
    return own, inputs, current


def test_grpo_equals_trls_grpo_trainer_with_loss_type_grpo_and_beta(tmp_path):
    """TRL's defaults are another loss (dapo) and no KL; and its KL is multiplied by the ratio, which the paper's is not."""
    config = trl.GRPOConfig(
        output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to="none", loss_type="grpo", beta=0.04, epsilon=0.2,
        scale_rewards="group", num_iterations=2, num_generations=4, generation_batch_size=8, per_device_train_batch_size=8,
        use_bias_correction_kl=False,
    )  # fmt: skip
    own, inputs, logps = of_rollouts(
        trl.GRPOTrainer, config, lambda prompts, tokens, texts: (prompts, tokens, None, texts, None, {}, None, None),
        environment_factories=None, environments=None, tools=None, num_iterations=2, use_vllm=False, scale_rewards="group",
        multi_objective_aggregation="sum_then_normalize", loss_type="grpo", top_entropy_quantile=1.0,
        importance_sampling_level="token", off_policy_mask_threshold=None, _entropy_bonus_enabled=False,
        current_gradient_accumulation_steps=1,
    )  # fmt: skip
    variant = Grpo(samples=4, clip=0.2, beta=0.04, rollout_size=8, epochs=2)
    advantages = torch.tensor(variant.advantages(REWARDS.double().numpy(), np.zeros(ROWS), np.zeros(ROWS)), dtype=torch.float32)
    assert_close(advantages, inputs["advantages"], rtol=1e-5, atol=1e-6)
    loss = trl.GRPOTrainer._compute_loss(own, own.model, inputs)
    loss.backward()
    found = ours(variant, advantages, behaviour_logps=OLD, reference_logps=REFERENCE)
    assert_close(found, (loss.detach(), logps.grad * MASK), rtol=1e-5, atol=1e-6)


def test_rloo_has_the_advantages_of_trls_rloo_trainer_and_its_gradient_where_the_policy_is_the_old_one(tmp_path):
    """TRL clips the ratio of the response, which is 1 at the first step on a rollout; the paper has none, and neither have we."""
    config = trl.RLOOConfig(
        output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to="none", beta=0.05, epsilon=0.2, num_iterations=1,
        num_generations=4, generation_batch_size=8, per_device_train_batch_size=8,
    )  # fmt: skip
    own, inputs, _ = of_rollouts(
        trl.RLOOTrainer, config, lambda *generated: generated, reward_clip_range=None, normalize_advantages=False,
    )  # fmt: skip
    variant = Rloo(samples=4, beta=0.05, rollout_size=8, epochs=1)
    ratios = (OLD - REFERENCE).sum(dim=1).double().numpy()
    advantages = torch.tensor(variant.advantages(REWARDS.double().numpy(), ratios, np.zeros(ROWS)), dtype=torch.float32)
    assert_close(advantages, inputs["advantages"], rtol=1e-5, atol=1e-6)
    logps = OLD.clone().requires_grad_()
    own._get_per_token_logps_and_entropies = lambda *given, **options: (logps, torch.zeros_like(logps), None)
    trl.RLOOTrainer._compute_loss(own, own.model, inputs).backward()
    current = OLD.clone().requires_grad_()
    variant.loss(Batch(current, OLD, advantages, REWARDS, torch.arange(ROWS), MASK)).mean().backward()
    assert_close(current.grad * MASK, logps.grad * MASK, rtol=1e-5, atol=1e-6)


def test_a_star_equals_trls_a2po_trainer():
    """TRL draws the responses from the policy, and expects rewards of 0 or 1; the regression is the same."""
    from trl.experimental.a2po import A2POTrainer

    logits = torch.randn(ROWS, PROMPT + LENGTH, 11, generator=torch.Generator().manual_seed(9)).requires_grad_()
    ids = torch.randint(0, 11, (ROWS, PROMPT + LENGTH), generator=torch.Generator().manual_seed(8))
    attention = torch.cat([torch.ones(ROWS, PROMPT, dtype=torch.long), MASK], dim=1)
    samples = torch.rand(ROWS, 4, generator=torch.Generator().manual_seed(7))

    class Unwrapping(SimpleNamespace):
        prepare = staticmethod(lambda loader: loader)
        unwrap_model = staticmethod(lambda model: model)

    class Encoded(dict):
        to = lambda self, device: self  # noqa: E731

    own = trainer(
        accelerator=Unwrapping(device=torch.device("cpu"), state=SimpleNamespace(deepspeed_plugin=None)),
        args=SimpleNamespace(
            beta1=0.5, beta2=0.3, num_value_samples=4, per_device_train_batch_size=ROWS, max_prompt_length=None,
            filter_all_incorrect=False,
        ),
        train_dataset=[{"prompt": f"prompt {i}"} for i in range(ROWS)], eval_dataset=None, model_kwarg_keys=set(),
        processing_class=Batched(Encoded), ref_model=Generating(), value_generation_config=None,
        _calculate_rewards=lambda *given: samples.flatten(),
    )  # fmt: skip
    own._get_sequence_logps = MethodType(A2POTrainer._get_sequence_logps, own)
    A2POTrainer._estimate_optimal_values(own)
    values = torch.tensor([own._optimal_values[f"prompt {i}"] for i in range(ROWS)])
    assert_close(values, torch.tensor(log_mean_exp(samples.double().numpy(), 0.5), dtype=torch.float32), rtol=1e-5, atol=1e-6)
    inputs = {
        "input_ids": ids, "attention_mask": attention, "logits_to_keep": LENGTH, "ref_logps": REFERENCE.sum(dim=1),
        "rewards": REWARDS, "v_star": values,
    }  # fmt: skip
    loss = A2POTrainer.compute_loss(own, lambda **options: SimpleNamespace(logits=logits), inputs)
    loss.backward()
    gradient, logits.grad = logits.grad, None
    picked = logits[:, PROMPT - 1 : -1].log_softmax(dim=-1).gather(2, ids[:, PROMPT:, None])[..., 0] * MASK
    given = Batch(picked, REFERENCE, REWARDS - values, REWARDS, torch.arange(ROWS), MASK)
    found = AStar(beta=0.3).loss(given).mean()
    found.backward()
    assert_close((found.detach(), logits.grad), (loss.detach(), gradient), rtol=1e-5, atol=1e-6)


class Batched:
    """Stands in for a tokenizer: every prompt is three tokens."""

    chat_template = None

    def __init__(self, encoded):
        self.encoded = encoded

    def __call__(self, texts, **options):
        return self.encoded(input_ids=torch.ones(len(texts), PROMPT, dtype=torch.long))

    def batch_decode(self, ids, **options):
        return ["text"] * len(ids)


class Generating(torch.nn.Module):
    """Stands in for the reference: generates four samples to each prompt."""

    is_gradient_checkpointing = False

    def generate(self, input_ids, generation_config):
        return torch.cat([input_ids, input_ids], dim=1).repeat_interleave(4, dim=0)
