"""Prompts with their responses as the tokens that a fine-tuned reward reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from aloll_cli.errors import UserError
from aloll_cli.rewards.base import Row
from aloll_cli.tasks.base import BadRow, Part, Turn
from aloll_cli.tasks.options import Chat
from aloll_cli.text.encoding import Encoder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from aloll_cli.arrays import IntArray


class Reader:
    """Tokenizes rows as policies read them: by the chat template of the model, or as plain text that ends with EOS.

    Encoders read a separator between prompt and response. Over-long chats lose their oldest turns, over-long prompts their
    beginning, over-long responses their end.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_prompt_tokens: int, max_response_tokens: int) -> None:
        self._encoder = Encoder(tokenizer, max_prompt_tokens, max_response_tokens, Chat.template)
        self._is_chat = tokenizer.chat_template is not None
        self._is_separated = tokenizer.sep_token is not None

    def read(self, rows: Sequence[Row]) -> tuple[list[list[int]], IntArray]:
        """The token ids of N rows, and (N, 2) how many tokens of prompt and response were cut off.

        Raises:
            UserError: the chat template rejects a row.
        """
        import numpy as np

        said = [self._chat(row) if self._is_chat else self._plain(row) for row in rows]
        prompts = self._encoder.prompts([parts for parts, _ in said])
        responses = self._encoder.responses([response for _, response in said], prompts)
        ids, cut = [], np.zeros((len(rows), 2), dtype=np.int64)
        for place, (row, prompt, response) in enumerate(zip(rows, prompts, responses, strict=True)):
            if isinstance(prompt, BadRow) or isinstance(response, BadRow):
                why = prompt if isinstance(prompt, BadRow) else response
                raise UserError(f"example {row.id}: {why}.", "Choose another model for the reward.")
            ids.append([*prompt.ids, *response.ids])
            cut[place] = prompt.cut, response.cut
        return ids, cut

    def _plain(self, row: Row) -> tuple[list[dict[str, Any]], str]:
        return [vars(Part(row.prompt, None, eos=self._is_separated))], row.text

    def _chat(self, row: Row) -> tuple[list[dict[str, Any]], str]:
        turns, response = chat_of(row)
        parts = [Part(turn["content"], turn["role"], drop=None if turn["role"] == "system" else 0) for turn in turns]
        return [vars(part) for part in parts], response


def chat_of(row: Row) -> tuple[list[Turn], str]:
    """The turns before the response, and the response with the turn that it continues."""
    turns = list(row.turns)
    begun = turns.pop()["content"] if turns and turns[-1]["role"] == "assistant" else ""
    if all(turn["role"] == "user" for turn in row.turns):  # pieces of plain text
        turns = [{"role": "user", "content": row.prompt}]
    return turns, begun + row.text if begun else row.response


def cuts_in_words(cut: IntArray) -> str:
    """What was cut of (N, 2) prompts and responses: ``cut: 12 of 800 prompts (by 40 tokens on average), no response``."""
    names = ("prompts", "responses")
    parts = [
        f"{(column > 0).sum():,} of {len(cut):,} {name}"
        + (f" (by {column[column > 0].mean():.0f} tokens on average)" if column.any() else "")
        for name, column in zip(names, cut.T, strict=True)
    ]
    return f"truncated: {', '.join(parts)}"
