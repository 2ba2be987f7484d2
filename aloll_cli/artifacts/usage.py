"""How an evaluated policy is asked elsewhere: what transformers has to be told for the same prompts and responses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aloll_cli.artifacts.data import Data
from aloll_cli.artifacts.raw_table import open_data
from aloll_cli.models.decoding import Beam, Generation, Sample
from aloll_cli.store.store import Store
from aloll_cli.tasks.base import BadRow, Part, Task, Turn
from aloll_cli.tasks.options import Chat
from aloll_cli.text.template import NOW

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from aloll_cli.text.encoded import Prompt

QUESTION = "What is the capital of France?"  # an example of no data set, which may be nobody's to publish
BEGINNING = "Today I"


@dataclass(frozen=True)
class Usage:
    """How a policy is asked.

    Attributes:
        messages: an example as chat turns, where the chat template is used.
        parts: an example as texts that are tokenized one by one; empty where the chat template is used.
        template: options of the chat template.
        before: token ids in front of the parts.
        opening, closing: what the template writes around a response.
        stop: strings before which a response ends.
        ends: token ids that end a response.
        pad: the padding token.
        prompt_tokens: the longest prompt that was not cut.
        response_tokens: the longest response.
        decoding: the decoding, as keyword arguments of GenerationConfig.
        is_exact: whether transformers makes the example's very tokens of this.
    """

    messages: tuple[Turn, ...]
    parts: tuple[str, ...]
    template: dict[str, Any]
    before: tuple[int, ...]
    opening: str
    closing: str
    stop: tuple[str, ...]
    ends: tuple[int, ...]
    pad: int
    prompt_tokens: int
    response_tokens: int
    decoding: dict[str, Any]
    is_exact: bool


def usage_of(
    task: Task, generation: Generation, tokenizer: PreTrainedTokenizerBase, ends: Sequence[int], chats: bool | None
) -> Usage | None:
    """How a policy is asked as it was evaluated; None if the chat template rejects the example.

    Args:
        task: says how prompts are formatted.
        generation: the decoding of the evaluation.
        tokenizer: the policy's.
        ends: the tokens that end a response.
        chats: whether the prompts of the data are chats; None where that is not known.
    """
    from aloll_cli.text.encoding import Encoder

    encoder = Encoder(tokenizer, task.max_prompt_tokens, task.max_response_tokens, task.chat)
    turn = Turn(role="user", content=QUESTION)
    conversation = task.conversation([turn]) if chats is not False else None
    if conversation is None or (chats is None and not encoder.uses_template):
        conversation = task.asked(QUESTION if task.chat is Chat.wrap else BEGINNING)
    parts = [vars(part) for part in conversation]
    (prompt,) = encoder.prompts([parts])
    if isinstance(prompt, BadRow):
        return None
    messages = tuple(Turn(role=role, content=text) for role, text in prompt.chat.turns) if prompt.chat else ()
    texts = () if prompt.chat else tuple(_text(part, tokenizer) for part in conversation)
    template = _template_options(messages, task, tokenizer, prompt)
    before = () if prompt.chat else _before(texts, tokenizer, prompt)
    return Usage(
        messages=messages, parts=texts, template=template or {}, before=before or (), opening=prompt.around.opening,
        closing=prompt.around.closing, stop=tuple(task.stop), ends=tuple(ends), pad=int(tokenizer.pad_token_id),
        prompt_tokens=task.max_prompt_tokens, response_tokens=task.max_response_tokens, decoding=_decoding(generation),
        is_exact=template is not None and before is not None,
    )  # fmt: skip


def reads_chats(data: Data, store: Store) -> bool | None:
    """Whether the prompts of the training data are chats; None if the data is not there any more."""
    if not store.is_complete(data):
        return None
    first = next(iter(open_data(store.path(data), "train", ["parts"]).batches())).column("parts")[0].as_py()
    return all(part["role"] is not None for part in first)


def _text(part: Part, tokenizer: PreTrainedTokenizerBase) -> str:
    return part.prefix + part.text + (str(tokenizer.eos_token) if part.eos else "")


def _template_options(
    messages: Sequence[Turn], task: Task, tokenizer: PreTrainedTokenizerBase, prompt: Prompt
) -> dict[str, Any] | None:
    """The options with which the tokenizer's own template makes the same tokens of a chat; None if none do."""
    if not messages:
        return {}
    thinking: dict[str, Any] = {"enable_thinking": False} if task.chat is Chat.without_thinking else {}
    for more in ({}, {"date_string": f"{NOW:%d %b %Y}"}):
        options = thinking | more
        chat = [{"role": turn["role"], "content": turn["content"]} for turn in messages]
        found: Any = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True, **options)
        if list(found["input_ids"]) == list(prompt.ids):
            return options
    return None


def _before(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, prompt: Prompt) -> tuple[int, ...] | None:
    """The tokens that stand before those of the texts; None if the prompt does not end in those."""
    ids = [token for text in texts for token in tokenizer(text, add_special_tokens=False)["input_ids"]]
    start = len(prompt.ids) - len(ids)
    return tuple(prompt.ids[:start]) if 0 <= start <= 1 and list(prompt.ids[start:]) == ids else None


def _decoding(generation: Generation) -> dict[str, Any]:
    """A decoding as transformers has it."""
    found: dict[str, Any] = {"do_sample": isinstance(generation, Sample)}
    if isinstance(generation, Sample):
        found |= {"temperature": generation.temperature, "top_p": generation.top_p, "top_k": 0}
    if isinstance(generation, Beam):
        found["num_beams"] = generation.beams
    if generation.repetition_penalty != 1:
        found["repetition_penalty"] = generation.repetition_penalty
    return found
