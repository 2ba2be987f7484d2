"""Text that a tokenizer cannot write: unknown tokens and changed text are counted, and nothing else is."""

import json
from functools import cache

import pytest
from chats import gemma_tokenizer, llama_tokenizer, qwen3_tokenizer
from families import FAMILIES, KINDS, tokenizer_of
from tiny import TEXTS, composed, llama, store, tokenizer, write_rows
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from aloll_cli.artifacts.chat_counts import chat_counts
from aloll_cli.artifacts.pipeline import Pipeline
from aloll_cli.stages import inspect
from aloll_cli.tasks.base import Part
from aloll_cli.tasks.options import Chat
from aloll_cli.text.encoding import Encoder
from aloll_cli.text.spelling import Loss, Spelling

WRITTEN = [
    *TEXTS,
    " Good 😀👍 答案 1.",
    "Good\n  Morning\tSir \n",
    "  def f(x):\n\n    return x  # <b>&amp;</b>",
    "don't , stop . it 's « naïve » …",
    "cafe\u0301 ﬁ ½ ①　ａ",
    "<|im_end|></s><unk><end_of_turn>",
    "مرحبا ไทย हिन्दी 한국어 👩‍👩‍👧",
    "\ue000 \U0010fffd ",
]


@cache
def trained(normalizer=None) -> str:
    """A vocabulary without bytes, as sentencepiece's without byte fallback: what it lacks becomes <unk>."""
    bpe = Tokenizer(models.BPE(unk_token="<unk>"))
    bpe.normalizer = {
        None: None,
        "lower": normalizers.Lowercase(),
        "spaces": normalizers.Replace("\n", " "),
    }[normalizer]
    bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    letters = [*"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.,?▁\n0123456789"]
    names = ["<unk>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=names, initial_alphabet=letters, show_progress=False)
    bpe.train_from_iterator([*TEXTS * 3], trainer)
    return bpe.to_str()


def lossy(normalizer=None) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(trained(normalizer)), unk_token="<unk>", bos_token="<s>", eos_token="</s>",
        pad_token="<s>",
    )  # fmt: skip


def losses(words, texts, limit=400, chat=False):
    """What is lost of texts as prompts, and as responses."""
    encoder, spelling = Encoder(words, limit, limit, Chat.template), Spelling(words)
    role = "user" if chat else None
    prompts = encoder.prompts([[vars(Part(text, role))] for text in texts])
    responses = encoder.responses(texts, prompts)
    alone = [[text] for text in texts]
    return [spelling.losses(alone, [found.ids for found in side]) for side in (prompts, responses)]


LOSSLESS = {"own": tokenizer, "qwen": qwen3_tokenizer, "gemma": gemma_tokenizer, "llama": llama_tokenizer}


@pytest.mark.parametrize("limit", [400, 5])
@pytest.mark.parametrize("name", LOSSLESS)
def test_nothing_is_lost_by_bytes_and_byte_fallback_in_texts_that_are_whole_or_cut(name, limit):
    assert losses(LOSSLESS[name](), WRITTEN, limit) == [[Loss.nothing] * len(WRITTEN)] * 2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FAMILIES)
def test_nothing_is_lost_in_chats_whatever_a_template_writes_around_them(name, kind):
    spaced = "legacy" in kind and "\n\n" in FAMILIES[name].words  # such tokenizers do put a space behind an added token
    texts = [text for text in WRITTEN if not (spaced and "\n\n" in text)]
    assert losses(tokenizer_of(name, kind), texts, chat=True) == [[Loss.nothing] * len(texts)] * 2


def test_characters_without_a_token_and_changed_text_are_told_apart():
    texts = ["Good day.", "Good 😀 day.", " We are 答案 1.", "Good\nMorning Sir"]
    nothing, changed, unknown = Loss
    assert losses(lossy(), texts) == [[nothing, unknown, unknown, nothing]] * 2
    assert losses(lossy("lower"), texts) == [[changed, unknown, unknown, changed]] * 2
    assert losses(lossy("spaces"), texts) == [[nothing, unknown, unknown, changed]] * 2


def test_the_same_characters_in_another_form_of_unicode_are_no_change():
    words = tokenizer()
    composing = Tokenizer.from_str(words.backend_tokenizer.to_str())
    composing.normalizer = normalizers.NFC()
    words = PreTrainedTokenizerFast(tokenizer_object=composing, bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    assert losses(words, ["cafe\u0301"]) == [[Loss.nothing]] * 2


@pytest.mark.slow
def test_what_is_lost_is_counted_and_warned_of_and_shown_by_inspect(tmp_path, capsys):
    words = lossy("lower")
    llama().save_pretrained(tmp_path / "model")
    words.save_pretrained(tmp_path / "model")
    answers = ["good day.", "Good day.", "good 😀 day.", "good\nday."]
    for split in ("train", "validation", "test"):
        rows = [{"prompt": f"{split} {i}?", "response": answers[i % 4 if split == "train" else 0]} for i in range(8)]
        write_rows(tmp_path / "rows" / f"{split}.jsonl", rows)
    settings = composed(
        "task=local", f"task.path={tmp_path / 'rows'}", "model=pretrained", f"model.path={tmp_path / 'model'}", "threads=1",
        "task.max_prompt_tokens=40", "task.max_response_tokens=40", "reward=length", "format=json",
    )  # fmt: skip
    line, place = Pipeline(settings), store(tmp_path / "out")
    folder = place.ensure(line.examples)
    counts = chat_counts(folder, "train")
    assert (counts.unknown_responses, counts.changed_responses) == (2, 2)
    assert (counts.unknown_prompts, counts.changed_prompts) == (0, 0)
    assert {kind: counts.first[kind] for kind in ("unknown_responses", "changed_responses")} == {
        "unknown_responses": "train-2-0", "changed_responses": "train-1-0",
    }  # fmt: skip
    said = capsys.readouterr().err
    assert "warning: 2 of 8 train responses have characters that the model's tokenizer cannot write; its unknown token" in said
    assert "warning: 2 of 8 train responses are not trained as they are: the model's tokenizer changes their letters" in said
    assert chat_counts(folder, "test").warnings("test") == []
    inspect.run(settings, place)
    found = json.loads(capsys.readouterr().out)["splits"]
    assert [found[split]["chats"]["unknown_responses"] for split in found] == [2, 0, 0]
    assert [found[split]["chats"]["changed_responses"] for split in found] == [2, 0, 0]
