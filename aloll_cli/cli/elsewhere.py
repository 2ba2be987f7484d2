"""The names that other libraries and tools give to our options, and what needs no option here."""

from __future__ import annotations

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
    "early_stop={}": "early_stopping_patience patience early_stopping early_stopping_rounds",
    "output_dir={}": "o output out outdir out_dir output_directory save_dir save_path output_path",
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
    "variant=kl variant.beta={}": "beta kl kl_coef init_kl_coef kl_coeff kl_beta kl_weight",
    "variant.clip={}": "clip cliprange clip_range epsilon clip_eps",
    "reward=classifier reward.path={}": "reward_model reward_model_path reward_model_name_or_path",
    "generation.temperature={}": "temperature",
    "generation.top_p={}": "top_p",
    "generation.top_p=0.95": "top_k",
    "generation.samples={}": "num_return_sequences num_samples n_samples num_generations",
    "generation=beam generation.beams={}": "num_beams beams beam_size",
    "generation=sample": "do_sample",
    "generation=greedy": "greedy",
    "tracking=wandb": "wandb report_to use_wandb logger log_with",
    "tracking=wandb tracking.project={}": "wandb_project project project_name",
    "attn={}": "attn_implementation attention flash_attention",
    "attn=flash_attention_2": "use_flash_attention use_flash_attention_2 flash_attn",
    "gradient_checkpointing={}": "use_gradient_checkpointing activation_checkpointing grad_checkpointing",
    "processes={}": "num_processes nproc_per_node n_gpus num_gpus gpus devices world_size",
    "device=cpu": "no_cuda use_cpu cpu",
    "device=cuda": "gpu cuda use_cuda use_gpu",
    "threads={}": "num_threads num_workers dataloader_num_workers workers",
    "seed={}": "random_seed random_state data_seed",
    "verbosity=verbose": "log_level verbose debug logging_level",
    "max_hours={}": "time_limit max_time",
    "ask=false": "y yes assume_yes no_confirm",
    "format=json": "json",
    "against={}": "baseline",
    "task=local task.hub={}": "hub hub_name hub_dataset",
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
    "device=cpu": "gpu cuda use_cuda use_gpu",
    "device=auto": "no_cuda use_cpu cpu",
    "seed=0": "random_seed random_state data_seed",
}
NOTHING = ("false", "no", "none", "null", "off", "0", "0.0")
INSTEAD = {  # what has an option elsewhere, and needs none here
    "The same command continues where it was stopped.": "resume resume_from_checkpoint continue restart",
    "aloll plan shows what would be built.": "dry_run dryrun simulate",
    "Nothing is overwritten: what differs is built beside what exists.": "f force overwrite overwrite_output_dir no_cache",
    "Less memory: adapter=lora, model.quantization=nf4, gradient_checkpointing=true": "deepspeed fsdp zero zero_stage",
    "For options in FOLDER/experiment/NAME.yaml: --config-dir FOLDER experiment=NAME": "config config_file config_path",
    "aloll --version": "version",
}
BY_STAGE = {  # what a name means in one stage
    "export": {"to={}": "o out output outdir out_dir output_path path folder dir"},
    "clean": {"ask=false": "f force"},
    "generate": {
        "samples={}": "num_return_sequences num_samples n_samples num_generations n k",
        "max_tokens={}": "max_new_tokens max_completion_length response_length max_length",
        "first={}": "limit max_samples num_prompts",
        "to={}": "o out output outfile output_file output_path",
        "policy={}": "model_path model_name_or_path checkpoint model_id",
    },
    "chat": {
        "max_tokens={}": "max_new_tokens max_completion_length response_length max_length",
        "policy={}": "model_path model_name_or_path checkpoint model_id",
    },
    "runs": {"sort={}": "sort_by order order_by"},
}
CHOICES = {  # by group and choice: what others call it
    "variant": {"nll": "sft mle ce bc supervised", "r_gold": "gold"},
    "values": {"monte_carlo": "mc", "constant": "mean", "group": "leave_one_out loo"},
    "adapter": {"lora": "peft"},
    "generation": {"sample": "nucleus sampling top_p", "beam": "beam_search beams", "greedy": "argmax"},
    "reward": {
        "column": "stored rating ratings label labels", "classifier": "rm model reward_model", "function": "python custom",
        "mixed": "sum weighted combined",
    },
    "task": {"local": "file jsonl csv parquet custom", "hha": "hh hh_rlhf anthropic"},
}  # fmt: skip
OURS = {name: template for template, names in ELSEWHERE.items() for name in names.split()}
SWITCHED_OFF = {name: template for template, names in OFF.items() for name in names.split()}
NEEDLESS = {name: advice for advice, names in INSTEAD.items() for name in names.split()}
OF_STAGE = {(stage, name): of for stage, found in BY_STAGE.items() for of, names in found.items() for name in names.split()}
CALLED = {(group, name): of for group, found in CHOICES.items() for of, names in found.items() for name in names.split()}


def familiar(name: str, value: str, stage: str = "") -> str | None:
    """What to type in a stage for a name that others give to one of our options, or None; ``{}`` stands for a missing value."""
    theirs = name.lower().replace("-", "_")
    is_off = value.lower() in NOTHING or (theirs in ("num_beams", "beams", "beam_size") and value == "1")
    template = OF_STAGE.get((stage, theirs)) or (SWITCHED_OFF.get(theirs) if is_off else None) or OURS.get(theirs)
    if template is None:
        return None
    inner = value.strip("[]") if "[{}" in template or "{}]" in template else value
    return template.format(inner or "{}")


def instead(name: str) -> str | None:
    """What to do instead of setting something that needs no option here, or None."""
    return NEEDLESS.get(name.strip("-+ ").lower().replace("-", "_"))
