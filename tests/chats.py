"""Tiny chat models: tokenizers with the control tokens and the template of a family, and a random Qwen3 to go with one."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from tiny import TEXTS
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

# as Qwen3's without tools: earlier answers lose their thoughts, the last one shows where they would be
QWEN3 = r"""
{%- set last = namespace(query=messages|length - 1, open=true) %}
{%- for message in messages[::-1] %}
    {%- if last.open and message.role == 'user' %}
        {%- set last.open = false %}
        {%- set last.query = messages|length - 1 - loop.index0 %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.role != 'assistant' %}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}
    {%- else %}
        {%- set said, thought = message.content, '' %}
        {%- if '</think>' in message.content %}
            {%- set said = message.content.split('</think>')[-1].lstrip('\n') %}
            {%- set thought = message.content.split('</think>')[0].split('<think>')[-1].strip('\n') %}
        {%- endif %}
        {%- set thoughts = '<think>\n' + thought + '\n</think>\n\n' if loop.index0 > last.query else '' %}
        {{- '<|im_start|>assistant\n' + thoughts + said + '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
    {%- if enable_thinking is defined and not enable_thinking %}
        {{- '<think>\n\n</think>\n\n' }}
    {%- endif %}
{%- endif %}
""".strip()

# as Gemma's: BOS by the template, speakers take turns, no system, everything trimmed, an end of turn that is not EOS
GEMMA = r"""
{{- bos_token }}
{%- if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}
{%- for message in messages %}
    {%- if (message.role == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('Conversation roles must alternate user/assistant') }}
    {%- endif %}
    {{- '<start_of_turn>' + ('model' if message.role == 'assistant' else 'user') + '\n' }}
    {{- message.content | trim + '<end_of_turn>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}
""".strip()


def qwen3_tokenizer() -> PreTrainedTokenizerFast:
    """<|endoftext|>, <|im_start|> and <|im_end|> are 0, 1 and 2; the last is EOS. No BOS, as Qwen3's."""
    tokenizer = _tokenizer(("<|endoftext|>", "<|im_start|>", "<|im_end|>"), QWEN3, eos="<|im_end|>", pad="<|endoftext|>")
    tokenizer.add_tokens([AddedToken(tag, special=False) for tag in ("<think>", "</think>")])
    return tokenizer


def gemma_tokenizer(template: str = GEMMA) -> PreTrainedTokenizerFast:
    """<pad>, <bos>, <eos>, <start_of_turn> and <end_of_turn> are 0 to 4."""
    tokens = ("<pad>", "<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>")
    return _tokenizer(tokens, template, eos="<eos>", pad="<pad>", bos="<bos>")


def _tokenizer(control: tuple[str, ...], template: str, eos: str, pad: str, bos: str | None = None) -> PreTrainedTokenizerFast:
    made = PreTrainedTokenizerFast(tokenizer_object=_bpe(control), eos_token=eos, pad_token=pad, bos_token=bos)
    made.chat_template = template
    return made


@cache
def _trained(control: tuple[str, ...]) -> str:
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=list(control), initial_alphabet=alphabet, show_progress=False)
    bpe.train_from_iterator(TEXTS * 3, trainer)
    return bpe.to_str()


def _bpe(control: tuple[str, ...]) -> Tokenizer:
    return Tokenizer.from_str(_trained(control))


def qwen3(folder: Path) -> Path:
    """A folder with a random Qwen3, its tokenizer, and a published way of decoding that stops at <|endoftext|> as well."""
    torch.manual_seed(0)
    tokenizer = qwen3_tokenizer()
    config = Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, max_position_embeddings=256, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    model = Qwen3ForCausalLM(config)
    model.generation_config = GenerationConfig(do_sample=True, temperature=0.6, top_k=20, eos_token_id=[2, 0], pad_token_id=0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def llama_tokenizer() -> PreTrainedTokenizerFast:
    """As Llama 2's: a space before every text, bytes for what the vocabulary lacks; <unk>, <s>, </s> and <|user|> are 0 to 3."""
    control = ["<unk>", "<s>", "</s>", "<|user|>", *(f"<0x{i:02X}>" for i in range(256))]
    bpe = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    bpe.normalizer = normalizers.Replace(" ", "▁")
    bpe.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    bpe.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    bpe.train_from_iterator(TEXTS * 3, trainers.BpeTrainer(vocab_size=400, special_tokens=control, show_progress=False))
    made = PreTrainedTokenizerFast(tokenizer_object=bpe, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="<unk>")
    made.chat_template = "{% for m in messages %}<|user|>\n{{ m.content }}</s>\n{% endfor %}Answer:"
    return made
