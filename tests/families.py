"""Chat templates in the manner of a dozen families of models, and tiny tokenizers of three kinds to go with each.

The templates are short ones of our own that write what those of the families write around a turn.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache

from chats import GEMMA, QWEN3
from tiny import TEXTS
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from aloll_cli.tasks.options import Chat


@dataclass(frozen=True)
class Family:
    """A template, its control tokens, those of the tokenizer, and whether it takes a system turn."""

    template: str
    control: tuple[str, ...]
    eos: str
    bos: str | None = None
    system: bool = True
    words: tuple[str, ...] = ()  # added tokens that are no control tokens
    end: str | None = None  # the end of a turn; None for EOS
    ends: bool = True  # whether the template writes an end of turn
    absorbs: bool = False  # whether control tokens take the white space behind them
    chat: Chat = Chat.template


IM = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
THINK = ("<think>", "</think>")
CHATML = """
{%- for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>' + '\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"""
THINKS = CHATML.replace("{{ '<|im_start|>assistant\n' }}", "{{ '<|im_start|>assistant\n<think>\n' }}")
DEEPSEEK = """
{{- bos_token }}{% for m in messages %}
{%- if m.role == 'system' %}{{ m.content }}
{%- elif m.role == 'user' %}{{ '<｜User｜>' + m.content }}
{%- else %}{{ '<｜Assistant｜>' + m.content.split('</think>')[-1] + '<｜end▁of▁sentence｜>' }}{% endif %}{% endfor %}
{%- if add_generation_prompt %}{{ '<｜Assistant｜>' }}{% endif %}"""
DEEPSEEK_TOKENS = ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>")

FAMILIES = {
    "chatml": Family(CHATML, IM, "<|im_end|>"),
    "llama 2": Family(
        """
{%- set found = messages[0].role == 'system' %}
{%- for m in messages[(1 if found else 0):] %}
{%- set said = '<<SYS>>\n' + messages[0].content + '\n<</SYS>>\n\n' + m.content if found and loop.first else m.content %}
{%- if m.role == 'user' %}{{ bos_token + '[INST] ' + said | trim + ' [/INST]' }}
{%- else %}{{ ' ' + said | trim + ' ' + eos_token }}{% endif %}{% endfor %}""",
        ("<unk>", "<s>", "</s>"), "</s>", "<s>",
    ),
    "llama 3": Family(
        """
{{- bos_token }}{% for m in messages %}
{{- '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' }}
{%- if m.role == 'system' %}{{ 'Today Date: ' + (date_string or strftime_now('%d %b %Y')) + '\n\n' }}{% endif %}
{{- m.content | trim + '<|eot_id|>' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}""",
        ("<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"),
        "<|eot_id|>", "<|begin_of_text|>",
    ),
    "mistral": Family(
        """
{{- bos_token }}{% for m in messages %}
{%- if m.role == 'user' %}{{ '[INST] ' + m.content + '[/INST]' }}
{%- elif m.role == 'assistant' %}{{ ' ' + m.content + eos_token }}
{%- else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}""",
        ("<unk>", "<s>", "</s>", "[INST]", "[/INST]"), "</s>", "<s>", system=False,
    ),
    "gemma": Family(
        GEMMA, ("<pad>", "<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"), "<eos>", "<bos>", system=False,
        end="<end_of_turn>", words=("\n\n", "<table>"),
    ),
    "phi": Family(
        """
{%- for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + '<|end|>\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}""",
        ("<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"), "<|endoftext|>", absorbs=True, end="<|end|>",
    ),
    "qwen 3": Family(QWEN3, IM, "<|im_end|>", words=THINK),
    "qwen 3 without thoughts": Family(QWEN3, IM, "<|im_end|>", words=THINK, chat=Chat.without_thinking),
    "zephyr": Family(
        """
{%- for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + eos_token + '\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}""",
        ("<unk>", "<s>", "</s>"), "</s>", "<s>",
    ),
    "vicuna": Family(
        """
{{- bos_token }}{% for m in messages %}
{%- if m.role == 'system' %}{{ m.content + ' ' }}
{%- elif m.role == 'user' %}{{ 'USER: ' + m.content + ' ' }}
{%- else %}{{ 'ASSISTANT: ' + m.content + eos_token }}{% endif %}{% endfor %}
{%- if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}""",
        ("<unk>", "<s>", "</s>"), "</s>", "<s>",
    ),
    "deepseek": Family(DEEPSEEK, DEEPSEEK_TOKENS, DEEPSEEK_TOKENS[1], DEEPSEEK_TOKENS[0], words=THINK),
    "deepseek that thinks": Family(
        DEEPSEEK.replace("{{ '<｜Assistant｜>' }}{% endif", "{{ '<｜Assistant｜><think>\n' }}{% endif"),
        DEEPSEEK_TOKENS, DEEPSEEK_TOKENS[1], DEEPSEEK_TOKENS[0], words=THINK,
    ),
    "chatml that thinks": Family(THINKS, IM, "<|im_end|>", words=THINK),
    "command r": Family(
        """
{%- set names = {'system': 'SYSTEM', 'user': 'USER', 'assistant': 'CHATBOT'} %}
{{- bos_token }}{% for m in messages %}
{{- '<|START_OF_TURN_TOKEN|><|' + names[m.role] + '_TOKEN|>' + m.content | trim + '<|END_OF_TURN_TOKEN|>' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>' }}{% endif %}""",
        (
            "<PAD>", "<BOS_TOKEN>", "<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>", "<|SYSTEM_TOKEN|>", "<|USER_TOKEN|>",
            "<|CHATBOT_TOKEN|>",
        ),
        "<|END_OF_TURN_TOKEN|>", "<BOS_TOKEN>",
    ),
    "channels": Family(  # as gpt-oss: the generation prompt ends in the role, and the response opens a channel
        """
{%- for m in messages %}
{%- if m.role == 'assistant' %}{{ '<|start|>assistant<|channel|>final<|message|>' + m.content }}
{{- '<|return|>' if loop.last else '<|end|>' }}
{%- else %}{{ '<|start|>' + m.role + '<|message|>' + m.content + '<|end|>' }}{% endif %}{% endfor %}
{%- if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}""",
        ("<|startoftext|>", "<|return|>", "<|start|>", "<|channel|>", "<|message|>", "<|end|>"), "<|return|>",
    ),
    "no generation prompt": Family(CHATML.partition("{%- if add")[0], IM, "<|im_end|>"),
    "colon": Family(
        """
{%- for m in messages %}{{ m.role.title() + ': ' + m.content + '\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}""",
        ("<unk>", "<s>", "</s>"), "</s>", "<s>", ends=False,
    ),
    "colon and space": Family(
        """
{%- for m in messages %}{{ m.role.title() + ': ' + m.content + eos_token + '\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ 'Assistant: ' }}{% endif %}""",
        ("<unk>", "<s>", "</s>"), "</s>", "<s>",
    ),
}  # fmt: skip

KINDS = ("byte-level", "sentencepiece", "sentencepiece, legacy")


@cache
def _trained(kind: str) -> str:
    """A tokenizer without control tokens, as JSON."""
    texts = [*TEXTS * 3, "Assistant: We.\n", " [INST] How"]
    if kind == "byte-level":
        bpe = Tokenizer(models.BPE())
        bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        bpe.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        bpe.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=340, initial_alphabet=alphabet, show_progress=False))
        return bpe.to_str()
    bytes_ = [f"<0x{i:02X}>" for i in range(256)]
    bpe = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True))
    bpe.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")  # in training no token reaches across words
    bpe.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=420, special_tokens=bytes_, show_progress=False))
    if kind == "sentencepiece":
        bpe.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    else:  # a space before each text between two control tokens, too
        bpe = Tokenizer.from_str(json.dumps(json.loads(bpe.to_str()) | {"pre_tokenizer": None}))
        bpe.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    spaces = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    bpe.decoder = decoders.Sequence(spaces)
    return json.dumps(json.loads(bpe.to_str()) | {"added_tokens": []})  # bytes are words, and no control tokens


@cache
def tokenizer_of(name: str, kind: str, special: bool = True) -> PreTrainedTokenizerFast:
    """A tokenizer of a kind with the control tokens and the template of a family.

    Without ``special`` it calls EOS, BOS and the padding special, and no other control token.
    """
    family = FAMILIES[name]
    backend = Tokenizer.from_str(_trained(kind))
    for token in family.control:
        backend.add_tokens([AddedToken(token, normalized=False, special=special, rstrip=family.absorbs)])
    backend.add_tokens([AddedToken(word, normalized=False, special=False) for word in family.words])
    made = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token=family.eos, bos_token=family.bos, pad_token=family.control[0]
    )  # fmt: skip
    made.chat_template = family.template
    return made
