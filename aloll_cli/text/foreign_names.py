"""Names of control tokens of other models: a text in which they stand was formatted for such a model."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING

from aloll_cli.text.written import written_by

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# of ChatML, Llama 3, Phi and others; of DeepSeek; of Gemma; of Llama 2 and Mistral. No tag of HTML and no index x[INST] is one
SHAPES = re.compile(
    r"[<\[](?:"  # looked for first, which is four times as fast
    r"(?<=<)(?:\|[\w.:/-]{1,60}\|>|｜[^<>｜\s]{1,60}｜>|(?:start|end)_of_turn>|</?SYS>>)"
    r"|(?<=\[)(?:(?<!\w\[)INST|/INST)\])"
)


class ForeignNames:
    """Finds names of well-known kinds that are no token of a tokenizer, and that its chat template does not write as text."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer

    def of(self, texts: Iterable[str]) -> list[str]:
        """The distinct names in some texts, in alphabetical order."""
        found = {name for text in texts for name in SHAPES.findall(text)}
        return sorted(found - self._own) if found else []

    @cached_property
    def _own(self) -> set[str]:
        return {
            *self._tokenizer.get_vocab(),
            *(name for chat in written_by(self._tokenizer) for name in SHAPES.findall(chat.text)),
        }
