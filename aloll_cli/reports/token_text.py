"""Token ids as text, in which control tokens, their names as text, and missing tokens can be told apart."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher
from itertools import groupby
from typing import TYPE_CHECKING

from aloll_cli.text.written import control_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

COMPARED = 20_000  # tokens of a prompt


class TokenText:
    """Tokens as text: control tokens by their names, and a mark around such a name where it is only text."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer, self._control = tokenizer, control_tokens(tokenizer)
        self._ids = frozenset(self._control.ids.values())

    def text(self, ids: list[int]) -> str:
        """The text of tokens."""
        plain = str(self._tokenizer.decode([token for token in ids if token not in self._ids]))
        if not self._control.typed(plain):
            return str(self._tokenizer.decode(ids))
        pieces = (list(piece) for _, piece in groupby(ids, key=self._ids.__contains__))
        return "".join(self._marked(piece) for piece in pieces)

    def _marked(self, ids: list[int]) -> str:
        text = str(self._tokenizer.decode(ids))
        return text if ids[0] in self._ids else self._control.name.sub(r"[typed: \1]", text)


def marked(ids: list[int], uncut: list[int], writer: TokenText) -> str:
    """Tokens as text, with a mark where tokens of ``uncut`` are missing."""
    text = ""
    for kind, first, last, start, stop in _differences(uncut, ids):
        text += cut_mark(last - first) if kind in ("delete", "replace") else ""
        text += writer.text(ids[start:stop]) if stop > start else ""
    return text


def _differences(uncut: list[int], ids: list[int]) -> Sequence[tuple[str, int, int, int, int]]:
    """Where tokens are missing, as SequenceMatcher's opcodes; as one gap in a very long prompt: that would take minutes."""
    if len(uncut) <= COMPARED:
        return SequenceMatcher(None, uncut, ids, autojunk=False).get_opcodes()
    same = next((i for i, (a, b) in enumerate(zip(uncut, ids, strict=False)) if a != b), len(ids))
    gone = len(uncut) - len(ids)
    return [
        ("equal", 0, same, 0, same),
        ("delete", same, same + gone, same, same),
        ("equal", same + gone, len(uncut), same, len(ids)),
    ]


def cut_mark(count: int) -> str:
    """What stands where tokens were cut off."""
    return f"[… {count} tokens cut …]"
