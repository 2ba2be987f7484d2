"""What to type instead: the names that other libraries give to our options, and examples of values."""

from __future__ import annotations

import re
from functools import cache

from aloll_cli.cli.options import MISSING, SECOND, Catalogue, Option
from aloll_cli.errors import UserError
from aloll_cli.schema import unknown_key
from aloll_cli.settings.groups import GROUPS

# what users of transformers, TRL, peft and others type, and what to type here; {} stands for their value
ELSEWHERE = {
    "optimizer.lr={}": "lr learning_rate",
    "optimizer.weight_decay={}": "weight_decay wd",
    "optimizer.warmup_updates={}": "warmup_steps warmup num_warmup_steps warmup_updates",
    "optimizer.warmup_updates=50": "warmup_ratio",
    "optimizer.schedule={}": "lr_scheduler_type lr_scheduler scheduler lr_schedule schedule",
    "optimizer.max_grad_norm={}": "max_grad_norm gradient_clipping grad_clip clip_grad_norm gradient_clip_val",
    "optimizer.eps={}": "adam_epsilon adam_eps",
    "optimizer.betas=[{},0.999]": "adam_beta1 beta1",
    "optimizer.betas=[0.9,{}]": "adam_beta2 beta2",
    "optimizer.betas={}": "betas",
    "optimizer.eight_bit=true": "optim",
    "updates={}": "steps max_steps num_steps train_steps training_steps total_steps num_train_steps iterations max_iters",
    "updates=null epochs={}": "num_train_epochs num_epochs n_epochs train_epochs max_epochs epoch",
    "batch_size={}": "per_device_train_batch_size train_batch_size per_gpu_train_batch_size bs batch train_bs global_batch_size",
    "micro_batch_size={}": "mini_batch_size micro_batch per_device_batch_size",
    "micro_batch_size=4": "gradient_accumulation_steps grad_accum accumulate_grad_batches grad_accumulation_steps",
    "scoring_batch_tokens=4096": "per_device_eval_batch_size eval_batch_size per_gpu_eval_batch_size",
    "eval_every={}": "eval_steps evaluation_steps eval_interval eval_freq val_check_interval",
    "eval_every=50": "evaluation_strategy eval_strategy",
    "eval_prompts={}": "max_eval_samples eval_samples num_eval_prompts",
    "checkpoint_every={}": "save_steps save_interval save_every save_freq",
    "checkpoint_every=100": "save_strategy",
    "keep_checkpoints={}": "save_total_limit",
    "select=best": "load_best_model_at_end",
    "output_dir={}": "output out outdir out_dir output_directory save_dir save_path output_path",
    "model=pretrained model.path={}": "model_name_or_path model_name model_id model_path base_model base_model_name pretrained",
    "model.dtype=bfloat16": "bf16 fp16 half mixed_precision precision",
    "model.dtype={}": "torch_dtype dtype",
    "model=pretrained model.path=NAME model.quantization=nf4 adapter=lora": "load_in_4bit use_4bit load_in_8bit quantization",
    "model.trust_remote_code={}": "trust_remote_code",
    "model.adapter={} adapter=pretrained": "adapter_path peft_path lora_path adapter_name_or_path",
    "task=local task.path={}": "dataset dataset_name dataset_path data data_path data_dir train_file train_path data_file file",
    "task.max_prompt_tokens=384 task.max_response_tokens=128": "max_length max_seq_length max_seq_len seq_len max_len",
    "task.max_prompt_tokens={}": "max_prompt_length max_source_length max_prompt_len",
    "task.max_response_tokens={}": "max_new_tokens max_completion_length max_target_length response_length max_response_length",
    "task.stop=[{}]": "stop_strings stop_sequences",
    "adapter=lora": "use_peft use_lora peft",
    "adapter=lora adapter.r={}": "lora_r lora_rank rank",
    "adapter=lora adapter.alpha={}": "lora_alpha",
    "adapter=lora adapter.dropout={}": "lora_dropout",
    "adapter=lora adapter.targets=[{}]": "lora_target_modules target_modules lora_targets",
    "variant={}": "method algorithm algo loss loss_type objective trainer",
    "variant=kl variant.beta={}": "beta kl_coef init_kl_coef kl_coeff kl_beta kl_weight",
    "variant.clip={}": "clip cliprange clip_range epsilon clip_eps",
    "reward=classifier reward.path={}": "reward_model reward_model_path reward_model_name_or_path",
    "generation.temperature={}": "temperature",
    "generation.top_p={}": "top_p",
    "generation.samples={}": "num_return_sequences num_samples n_samples samples num_generations",
    "generation=beam generation.beams={}": "num_beams beams beam_size",
    "generation=sample": "do_sample",
    "generation=greedy": "greedy",
    "tracking=wandb": "wandb report_to use_wandb logger log_with",
    "tracking=wandb tracking.project={}": "wandb_project project project_name",
    "attn={}": "attn_implementation attention flash_attention",
    "attn=flash_attention_2": "use_flash_attention use_flash_attention_2 flash_attn",
    "gradient_checkpointing={}": "use_gradient_checkpointing activation_checkpointing grad_checkpointing",
    "processes={}": "num_processes nproc_per_node n_gpus num_gpus gpus devices world_size",
    "threads={}": "num_threads num_workers dataloader_num_workers workers",
    "seed={}": "random_seed random_state data_seed",
    "verbosity=verbose": "log_level verbose debug logging_level",
    "max_hours={}": "time_limit max_time",
}
OFF = {  # the same where their value switches something off
    "model.dtype=float32": "bf16 fp16 half mixed_precision precision",
    "model.quantization=null": "load_in_4bit use_4bit load_in_8bit quantization",
    "optimizer.max_grad_norm=null": "max_grad_norm gradient_clipping grad_clip clip_grad_norm gradient_clip_val",
    "adapter=none": "use_peft use_lora peft lora_r lora_rank",
    "select=last": "load_best_model_at_end",
    "eval_every=400": "evaluation_strategy eval_strategy eval_steps",
    "checkpoint_every=1000": "save_strategy save_steps",
    "generation=greedy": "do_sample temperature num_beams beams beam_size",
    "generation=sample": "greedy",
    "tracking=off": "wandb report_to use_wandb logger log_with",
    "attn=sdpa": "use_flash_attention use_flash_attention_2 flash_attn",
    "threads=null": "num_threads num_workers dataloader_num_workers workers",
    "verbosity=quiet": "verbose debug",
    "seed=0": "random_seed random_state data_seed",
}
NOTHING = ("false", "no", "none", "null", "off", "0", "0.0")
OURS = {name: template for template, names in ELSEWHERE.items() for name in names.split()}
SWITCHED_OFF = {name: template for template, names in OFF.items() for name in names.split()}


def unknown(key: str, value: str, known: list[str]) -> UserError:
    """The error for a key that is no option.

    Args:
        key: as it was typed.
        value: what it was set to.
        known: the options of this configuration.

    Returns:
        What to type: the only option of that name in some group, what other libraries call so, or the nearest name.
    """
    name = key.rpartition(".")[2]
    same = [option for option in known if "." in option and option.rpartition(".")[2] == name and option != key]
    typed = f"{same[0]}={value or 'VALUE'}" if len(same) == 1 else familiar(name, value)
    if typed:
        return UserError(f'there is no option "{key}".', f"Here it is: {typed}")
    if same:
        return UserError(f'there is no option "{key}".', f"Did you mean {' or '.join(same)}?")
    return unknown_key(key, known)


def familiar(name: str, value: str) -> str | None:
    """What to type for a name that other libraries give to one of our options, or None."""
    theirs = name.lower().replace("-", "_")
    is_off = value.lower() in NOTHING or (theirs in ("num_beams", "beams", "beam_size") and value == "1")
    template = (SWITCHED_OFF.get(theirs) if is_off else None) or OURS.get(theirs)
    if template is None:
        return None
    inner = value.strip("[]") if "[{}" in template or "{}]" in template else value
    return template.format(inner or "VALUE")


@cache
def catalogue() -> dict[str, Option]:
    """Every option of the package's own files by its key; of several choices, that of the file named after its class."""
    whole = Catalogue()
    choices = [whole.choice(group, name) for group in (*GROUPS, *SECOND) for name in whole.names(group)]
    found = dict(whole.root)
    for choice in sorted(choices, key=lambda c: c.name not in GROUPS[SECOND.get(c.group, c.group)]):
        found |= {key: option for key, option in choice.options.items() if key not in found}
    return found


def example(key: str) -> str:
    """An option with a value that it may have; where only its description says which, with that."""
    option = catalogue().get(key)
    name = key.rpartition(".")[2].upper()
    if option is None:
        return f"{key}={name}"
    if option.default not in (MISSING, "null", "[]", "{}"):
        return f"{key}={option.default.replace(', ', ',')}"
    if option.values:
        return f"{key}={next(iter(option.values))}"
    if number := re.match(r"(?:integer|number)(?: in [\[(]| ≥ | > |)([-\d.]*)", option.allowed):
        return f"{key}={max(1, float(number[1] or 1)):g}"
    listed = f"[{name}]" if option.allowed.startswith("list") else name
    return f"{key}={listed}" + (f" ({option.what})" if option.default == MISSING and option.what else "")


def how_to_set(key: str) -> str:
    """What to type where an option has no value."""
    return f"Set it: {example(key)}"
