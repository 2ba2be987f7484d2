"""Encoding of chats by a chat template: the tokens that servers send, and those that the template writes for the response.

P are the tokens of the chat with the generation prompt, F those of the whole chat with the response. Rendered text is tokenized
as a whole, so that tokens reach across the seams of the template as servers have them. Where F begins with P, what follows up to
the end token is the response. Where it does not, P stays, and the response is tokenized apart.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from aloll_cli.errors import UserError
from aloll_cli.tasks.base import BadRow
from aloll_cli.text.control import ControlTokens
from aloll_cli.text.encoded import Around, EncodedResponse, Hides, Limits, Prompt, Rendered, RenderedText, Turns
from aloll_cli.text.prompts import PartDict, smaller_chats
from aloll_cli.text.rendering import Rendering
from aloll_cli.text.template import Template, mark, marked
from aloll_cli.text.tokens import Pieces, RenderedTokens
from aloll_cli.text.written import control_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


TAG = re.compile(r"<[^<>/\s][^<>\s]*>$|\[[^\[\]/\s]+\]$")  # <think> or [THINK] at the end of a text; it need be no token
SHORTEST = (["user"], ["system", "user"])  # roles of the shortest chats: some templates need a system turn


@dataclass(frozen=True)
class Frame:
    """What a template writes around a response.

    Attributes:
        opening: text between the prompt and the response.
        closing: text between the response and the end token.
        end: the end token's name, or None if the template writes none.
    """

    opening: str = ""
    closing: str = ""
    end: str | None = None


def frame_of(template: Template, tokenizer: PreTrainedTokenizerBase) -> Frame:
    """The frame of a response to a question; an empty one if the template rejects this shortest of chats."""
    for roles in SHORTEST:
        (prompt,) = template.render([marked(roles)], opened=True)
        (whole,) = template.render([marked([*roles, "assistant"])], opened=False)
        if isinstance(prompt, str) and isinstance(whole, str):
            before, after = whole.split(mark(len(roles)))
            opening = before.removeprefix(prompt) if before.startswith(prompt) else ""
            end = _end_in(after, tokenizer)
            return Frame(opening, after if end is None else after.partition(end)[0], end)
    return Frame()


def _end_in(after: str, tokenizer: PreTrainedTokenizerBase) -> str | None:
    """The end token in what a template writes after a response: the first control token, or an added token right at the start."""
    if control := ControlTokens(tokenizer).name.search(after):
        return control[1]
    added = {token.content for token in tokenizer.added_tokens_decoder.values() if token.content.strip()}
    return max((name for name in added if after.lstrip().startswith(name)), key=len, default=None)


def chat_end(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The token that ends a response of a chat model; None without a template, or if it writes none."""
    if tokenizer.chat_template is None:
        return None
    try:
        end = frame_of(Template(tokenizer, thinking=True), tokenizer).end
    except UserError:  # the template is broken; rendering a chat will raise the error
        return None
    return None if end is None else ControlTokens(tokenizer, [end]).ids[end]


class ChatEncoder:
    """Encodes chats by a template. Over-long ones lose their oldest turns, then the start of the last; the system turn stays."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, limits: Limits, thinking: bool) -> None:
        self._tokenizer, self._limits = tokenizer, limits
        self._template = Template(tokenizer, thinking)
        self._frame = frame_of(self._template, tokenizer)
        self._control = control_tokens(tokenizer, [] if self._frame.end is None else [self._frame.end])
        self._pieces = Pieces(tokenizer, self._control.ids)
        self._tokens, self._rendering = RenderedTokens(self._pieces, self._control), Rendering(self._template, self._control)
        self._end = int(tokenizer.eos_token_id) if self._frame.end is None else self._control.ids[self._frame.end]
        self._added = [token.content for token in tokenizer.added_tokens_decoder.values() if token.content.strip()]
        # an opening may contain the end token, too
        self._ends_before = 0 if self._frame.end is None else self._frame.opening.count(self._frame.end)
        self._around = Around()
        self._around = self._decoded_around()

    def _decoded_around(self) -> Around:
        """What decoded responses have around their text, which need not be what the template writes: spaces come and go."""
        for roles in SHORTEST:
            (asked,) = self._encoded([marked(roles)])
            (answered,) = [asked] if isinstance(asked, BadRow) else self.responses([mark(len(roles))], [asked])
            if isinstance(answered, EncodedResponse):
                text = str(self._tokenizer.decode(answered.ids, skip_special_tokens=True))
                opening, found, closing = text.partition(mark(len(roles)))
                return Around(opening, closing) if found else Around()
        return Around()

    def prompts(self, chats: Sequence[Sequence[PartDict]]) -> list[Prompt | BadRow]:
        """The prompt of each chat, truncated to the limit; or why the template rejects it."""
        keys = [tuple((part["role"], part["text"], part["drop"]) for part in chat) for chat in chats]
        distinct = dict(zip(keys, chats, strict=True))  # a prompt is repeated for each of its responses
        asked = [_without_header(chat) for chat in distinct.values()]
        whole = self._encoded([_turns(turns) for turns in asked])
        found = {
            key: self._fitted(prompt, turns, _replaces_space(distinct[key]))
            for key, turns, prompt in zip(distinct, asked, whole, strict=True)
        }
        return [found[key] for key in keys]

    def _fitted(self, prompt: Prompt | BadRow, turns: list[PartDict], replaces_space: bool) -> Prompt | BadRow:
        if isinstance(prompt, BadRow):
            return prompt
        fitted = prompt if len(prompt.ids) <= self._limits.prompt else self._cut(prompt, turns)
        if isinstance(fitted, BadRow) or not replaces_space:
            return fitted
        assert fitted.chat is not None
        return replace(fitted, chat=replace(fitted.chat, replaces_space=True))

    def _encoded(self, chats: Sequence[Turns]) -> list[Prompt | BadRow]:
        """Prompts of any length."""
        texts = self._rendering.texts(chats, [Hides.nothing] * len(chats), opened=True)
        return [
            text if isinstance(text, BadRow)
            else Prompt(
                ids, 0, self._end, chat=Rendered(turns, text), typed=bool(text.hides), around=self._around,
                altered=self._alters(turns, text),
            )
            for turns, text, ids in zip(chats, texts, self._ids(texts), strict=True)
        ]  # fmt: skip

    def _alters(self, turns: Turns, text: RenderedText) -> bool:
        """Whether the template left out or changed a turn; many leave out what an assistant thought before."""
        shown = self._tokens.shown(text)
        return not all(_holds(shown, said) for role, said in turns if role != "assistant")

    def _ids(self, texts: Sequence[RenderedText | BadRow]) -> list[list[int]]:
        """Token ids of chats; none of those that the template rejects."""
        found = iter(self._tokens.ids([text for text in texts if isinstance(text, RenderedText)]))
        return [next(found) if isinstance(text, RenderedText) else [] for text in texts]

    def _cut(self, whole: Prompt, turns: list[PartDict]) -> Prompt | BadRow:
        """The prompt within the limit: with fewer turns, and if need be with a shorter last turn."""
        smaller = smaller_chats(turns)
        tried: dict[int, Prompt | BadRow] = {}

        def fits(choice: int) -> bool:
            tried[choice] = self._prompt([turns[i] for i in smaller[choice]])
            return self._fits(tried[choice])

        choice = bisect_left(range(len(smaller)), True, key=fits)
        if choice < len(smaller):
            kept, found = smaller[choice], tried[choice]
        else:
            kept, found = self._smallest(smaller[-1] if smaller else list(range(len(turns))), turns)
        if isinstance(found, BadRow):
            return found
        dropped = tuple(i for i in range(len(turns)) if i not in kept)
        return replace(found, cut=len(whole.ids) - len(found.ids), dropped=dropped)

    def _smallest(self, kept: list[int], turns: list[PartDict]) -> tuple[list[int], Prompt | BadRow]:
        """A prompt that must be cut within its turns: without the system turn only if that leaves no room for the last one."""
        found = self._shortened([turns[i] for i in kept], [len(kept) - 1])
        if isinstance(found, Prompt) and self._fits(found) and found.chat is not None and found.chat.turns[-1][1]:
            return kept, found
        kept = [i for i in kept if turns[i]["role"] != "system" or i == kept[-1]]
        found = self._shortened([turns[i] for i in kept], [len(kept) - 1, *range(len(kept) - 1)])
        if isinstance(found, Prompt) and not self._fits(found):
            raise UserError(
                f"task.max_prompt_tokens={self._limits.prompt}: the model's chat template alone takes {len(found.ids)} tokens.",
                "Set task.max_prompt_tokens=512, or task.chat=plain.",
            )
        return kept, found

    def _shortened(self, turns: list[PartDict], places: Sequence[int]) -> Prompt | BadRow:
        """The prompt without the beginnings of the turns at these places, one after another, until it fits if it can."""
        found = self._prompt(turns)
        for place in places:
            text = turns[place]["text"]
            starts, gone = [*self._pieces.starts(text), len(text)], 0
            while isinstance(found, Prompt) and len(found.ids) > self._limits.prompt and gone < len(starts) - 1:
                gone = min(gone + len(found.ids) - self._limits.prompt, len(starts) - 1)
                turns = [*turns[:place], turns[place] | {"text": text[starts[gone] :]}, *turns[place + 1 :]]
                found = self._prompt(turns)
        return found

    def _prompt(self, turns: list[PartDict]) -> Prompt | BadRow:
        """A prompt of any length."""
        (found,) = self._encoded([_turns(turns)])
        return found

    def _fits(self, found: Prompt | BadRow) -> bool:
        return isinstance(found, Prompt) and len(found.ids) <= self._limits.prompt

    def responses(self, texts: Sequence[str], prompts: Sequence[Prompt]) -> list[EncodedResponse | BadRow]:
        """Encode the responses to chats: truncated on the right, or complete with the end token; or why they are rejected."""
        chats = [prompt.chat for prompt in prompts if prompt.chat is not None]
        texts = [_without_space(text) if chat.replaces_space else text for text, chat in zip(texts, chats, strict=True)]
        whole = self._rendering.texts(
            [(*chat.turns, ("assistant", text)) for text, chat in zip(texts, chats, strict=True)],
            [chat.text.hides for chat in chats],
            opened=False,
        )
        return [
            rendered if isinstance(rendered, BadRow) else self._response(text, prompt, rendered, ids)
            for text, prompt, rendered, ids in zip(texts, prompts, whole, self._ids(whole), strict=True)
        ]

    def _response(self, text: str, prompt: Prompt, whole: RenderedText, ids: list[int]) -> EncodedResponse:
        """The response in a rendered chat, given the chat's tokens."""
        assert prompt.chat is not None
        apart, asked = ids[: len(prompt.ids)] != prompt.ids, prompt.chat.text
        if whole.hides > asked.hides:  # the response brings what is hidden
            (same,) = self._rendering.texts([prompt.chat.turns], [whole.hides], opened=True)
            asked = same if isinstance(same, RenderedText) else asked
        begins = whole.text.startswith(asked.text)
        rest = RenderedText(self._up_to_the_end(whole.text.removeprefix(asked.text)), whole.hides)
        altered = (begins or not apart) and not _holds(self._tokens.shown(whole), text)
        if not apart:
            ids = self._before_the_end(ids[len(prompt.ids) :])
        elif begins:
            (ids,) = self._tokens.ids([rest], within=True)
        else:
            text = self._continued(prompt.chat.text.text, text)
            (ids,) = self._pieces.ids([text], [True])
        if begins:
            text = self._tokens.shown(rest).removeprefix(self._frame.opening).removesuffix(self._frame.closing)
        typed = self._control.typed(text)
        if cut := max(len(ids) - self._limits.response, 0):
            kept = ids[: self._limits.response]
            said = self._around.removed(str(self._tokenizer.decode(kept, skip_special_tokens=True)), ended=False)
            return EncodedResponse(kept, said, cut, apart, typed, altered)
        return EncodedResponse([*ids, self._end], text, 0, apart, typed, altered)

    def _continued(self, prompt: str, text: str) -> str:
        """A response without a tag that the prompt has opened already, such as ``<think>``."""
        opened = prompt.rstrip()
        tags = [*self._added, *TAG.findall(opened)]
        tag = next((name for name in tags if opened.endswith(name) and text.lstrip().startswith(name)), "")
        return text.lstrip().removeprefix(tag).removeprefix(prompt[len(opened) :]) if tag else text

    def _up_to_the_end(self, rest: str) -> str:
        """What follows a prompt, before the end token."""
        if self._frame.end is None:
            return rest
        return self._frame.end.join(rest.split(self._frame.end)[: self._ends_before + 1])

    def _before_the_end(self, ids: list[int]) -> list[int]:
        """The same of token ids."""
        ends = [place for place, token in enumerate(ids) if token == self._end and self._frame.end is not None]
        return ids[: ends[self._ends_before]] if len(ends) > self._ends_before else ids


def _holds(whole: str, text: str) -> bool:
    """Whether a text contains another one, white space apart."""
    return text.strip() in whole or "".join(text.split()) in "".join(whole.split())


def _without_header(parts: Sequence[PartDict]) -> list[PartDict]:
    """The turns of a chat without the empty last one of the assistant, which the template adds itself."""
    opens = parts[-1]["role"] == "assistant" and not parts[-1]["text"]
    return list(parts[:-1] if opens else parts)


def _without_space(text: str) -> str:
    """A response without the space in front of its first word; an indentation stays."""
    return text.removeprefix(" ") if not text[1:2].isspace() else text


def _replaces_space(parts: Sequence[PartDict]) -> bool:
    tag = parts[-1]["prefix"] if not parts[-1]["text"] else ""
    return bool(tag) and not tag[-1].isspace()


def _turns(parts: Sequence[PartDict]) -> Turns:
    return tuple((part["role"], part["text"]) for part in parts)
