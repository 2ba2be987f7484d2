"""What several tests share: tiny random models, a tokenizer, composed settings, and a store in a temporary folder."""

from __future__ import annotations

import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from aloll_cli.cli.validation import build, register
from aloll_cli.command import Command
from aloll_cli.models.base import Dtype, Head, Placement
from aloll_cli.models.scratch import Scratch
from aloll_cli.runtime.options import Runtime
from aloll_cli.runtime.terminal import Log
from aloll_cli.runtime.world import Alone, World
from aloll_cli.settings.groups import GROUPS
from aloll_cli.settings.root import Settings
from aloll_cli.stopping import Stopper
from aloll_cli.store.store import Artifact, Job, Store

torch.set_num_threads(1)  # on tensors this small, threads only wait for each other

VOCABULARY = 320
TEXTS = [
    "The soup was cold and the waiter rude.",
    "We loved the garden, the bread and the quiet music.",
    "How do I bake bread? Mix flour, water and salt, then wait.",
]


@cache
def composed(*overrides: str) -> Settings:
    """The settings that a command line with these overrides gives."""
    register(Settings, GROUPS)
    GlobalHydra.instance().clear()  # of a command in this process
    with initialize_config_module("aloll_cli.conf", version_base=None):
        return build(compose("config", list(overrides)), Settings)


def some_slow(cases: Iterable[Any]) -> list[Any]:
    """The cases of a test, of which every third runs fast and the others with the slow ones."""
    return [
        case if place % 3 == 0 else pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.slow)
        for place, case in enumerate(cases)
    ]


@cache
def tokenizer():
    """A byte-level BPE with <pad>, <s> and </s> as 0, 1 and 2, which opens every text with <s> when asked to."""
    scratch = Scratch(
        head=Head.full, dtype=Dtype.float32, vocab_size=VOCABULARY, hidden_size=32, intermediate_size=64, layers=2, heads=2,
        context=128, tie_embeddings=False,
    )  # fmt: skip
    return scratch.tokenizer(TEXTS * 3)


def gpt2(dropout: float = 0.1, seed: int = 0) -> GPT2LMHeadModel:
    """A random GPT-2 with learned positions and dropout, in eval mode."""
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=VOCABULARY, n_positions=128, n_embd=32, n_layer=2, n_head=2, initializer_range=0.2,
        resid_pdrop=dropout, embd_pdrop=dropout, attn_pdrop=dropout, bos_token_id=2, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    return GPT2LMHeadModel(config).eval()


def llama(seed: int = 0) -> LlamaForCausalLM:
    """A random Llama with rotary positions and a head of its own, in eval mode."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=128, initializer_range=0.2, bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def outspoken(folder: Path, seed: int = 0) -> Path:
    """A saved random Llama whose every token is a word with a sentiment."""
    words = [word for word in SentimentIntensityAnalyzer().lexicon if word.isalpha()][: VOCABULARY - 3]
    vocabulary = {word: i for i, word in enumerate(["<pad>", "<s>", "</s>", *words])}
    level = Tokenizer(WordLevel(vocabulary, unk_token=words[0]))
    level.pre_tokenizer = WhitespaceSplit()
    llama(seed).save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=level, pad_token="<pad>", bos_token="<s>", eos_token="</s>").save_pretrained(folder)
    return folder


def open_model(folder: Path) -> PreTrainedModel:
    """A saved model as model=pretrained loads it."""
    model = composed("model=pretrained", f"model.path={folder}").model
    return model.initial(model.tokenizer([]), 1, Placement(torch.device("cpu"), Dtype.float32, None)).eval()


def store(root: Path) -> Store:
    """An empty store, or the one that is there."""
    return opened(root, composed().runtime)


def opened(root: Path, runtime: Runtime) -> Store:
    """A store that nobody asks to stop."""
    return Store(root, runtime, Alone(), Stopper(None), Command("run"), {})


class Note(Artifact):
    """An artifact with a file in a folder."""

    kind, name, stage = "notes", "one", "run"

    def identity(self):
        return {}

    def inputs(self):
        return {}

    def make(self, job: Job):
        (job.directory / "in").mkdir(exist_ok=True)
        (job.directory / "in" / "text").write_text("precious")


def job(root: Path) -> Job:
    """A making in a folder of its own, for what is made without a store."""
    return Job(root, store(root), composed().runtime, Alone(), Log(muted=True), Stopper(None))


class Pair(World):
    """Two threads that act as two processes."""

    def __init__(self, rank: int, meeting: Barrier, values: list[str]) -> None:
        self.rank, self.size, self.meeting, self.values = rank, 2, meeting, values

    def wait(self) -> None:
        self.meeting.wait()

    def decide(self, question):
        return question()

    def gather(self, value):
        self.values[self.rank] = json.dumps(value)
        self.meeting.wait()
        every = [json.loads(value) for value in self.values]
        self.meeting.wait()
        return every


def in_two(act):
    """What a function of the world returns in each of two processes."""
    meeting, values = Barrier(2, timeout=60), ["", ""]
    with ThreadPoolExecutor(2) as pool:
        parts = [pool.submit(act, Pair(rank, meeting, values)) for rank in (0, 1)]
        return [part.result() for part in parts]


def write_rows(file: Path, rows: list[dict]) -> None:
    """A JSON Lines file, its folder included."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def reviews(folder: Path, train: int = 24, others: int = 4) -> Path:
    """A folder of short reviews in the embedded task's form."""
    for split, count in (("train", train), ("validation", others), ("test", others)):
        rows = [
            {"prompt": f"Visit {i} to the {split} place.", "response": f"It was {('good', 'bad', 'fine')[i % 3]} for {i} people."}
            for i in range(count)
        ]
        write_rows(folder / f"{split}.jsonl", rows)
    return folder
