"""The tokenizer: trained on the raw train split, or the model's own."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aloll_cli.artifacts.data import Data
from aloll_cli.artifacts.raw_table import open_data
from aloll_cli.models.base import Model
from aloll_cli.stopping import interruptibly
from aloll_cli.store.outside import unchanged
from aloll_cli.store.store import Artifact, Job
from aloll_cli.tasks.base import plain_prompt
from aloll_cli.text.words import LONGEST, has_long_word

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TEXTS = 100_000  # most prompts with responses that a tokenizer is trained on


class Tokenizer(Artifact):
    """A tokenizer in the format of ``AutoTokenizer.from_pretrained``."""

    kind, stage = "tokenizer", "train-reference"
    resumes = False

    def __init__(self, model: Model, data: Data) -> None:
        self.model, self.data = model, data
        self.name = model.label

    def identity(self) -> dict[str, Any]:
        return self._own | ({"texts": TEXTS} if self.model.from_scratch else {})

    @cached_property
    def _own(self) -> dict[str, Any]:
        return self.model.tokenizer_identity()

    def inputs(self) -> dict[str, Artifact]:
        return {"data": self.data} if self.model.from_scratch else {}

    def make(self, job: Job) -> None:
        job.world.on_main(lambda: self._save(job))

    def load(self, job: Job) -> PreTrainedTokenizerBase:
        """The tokenizer of this artifact."""
        from aloll_cli.models.saving import load_tokenizer

        return load_tokenizer(job.path(self), self.model.trusts_code)

    def _save(self, job: Job) -> None:
        if not self.model.from_scratch:
            with unchanged(self.model.address, self._own, self.model.tokenizer_identity):
                self.model.tokenizer(iter(())).save_pretrained(job.directory)
            return
        split = 0

        def texts() -> Iterator[str]:
            nonlocal split
            for text in _texts(job.path(self.data)):
                split += has_long_word(text)
                yield text

        interruptibly(lambda: self.model.tokenizer(texts()), job.stopper).save_pretrained(job.directory)
        if split:
            job.log.say(f"  {split:,} texts with words of {LONGEST:,} characters and more were split to train the tokenizer")


def _texts(data: Path) -> Iterator[str]:
    """Texts of the train split; of a large one every second, third, … row, at most TEXTS."""
    import numpy as np

    rows = open_data(data, "train", ["parts", "response"])
    step = -(-rows.num_rows // TEXTS)
    start = 0
    for batch in rows.batches():
        for row in batch.take(np.arange(-start % step, batch.num_rows, step)).to_pylist():
            yield plain_prompt(row["parts"]) + row["response"]
        start += batch.num_rows
