"""Prompts and responses as the model reads them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

Turns = tuple[tuple[str, str], ...]  # role and text of each turn of a chat


class Limits(NamedTuple):
    """The most tokens of a prompt, and of a response without its end token."""

    prompt: int
    response: int


class Around(NamedTuple):
    """What a chat template writes before and after a response, without control tokens.

    The model generates it, and it is no part of the response's text.
    """

    opening: str = ""
    closing: str = ""

    def removed(self, text: str, ended: bool) -> str:
        """The text of a response.

        Args:
            text: what was generated, without control tokens.
            ended: whether it is complete.
        """
        if self.opening.startswith(text):
            return ""
        said = text.removeprefix(self.opening)
        return said.removesuffix(self.closing) if ended else said


class Hides(IntEnum):
    """What of a chat was hidden from its template, so that no text becomes a control token (``ControlTokens.hidden``)."""

    nothing = 0
    names = 1  # names of control tokens that people typed
    ends = 2  # also every character that such a name begins or ends with


@dataclass(frozen=True)
class RenderedText:
    """The text of a chat as its template writes it.

    Attributes:
        text: with the control tokens that the template wrote.
        hides: what is hidden in it.
    """

    text: str
    hides: Hides


@dataclass(frozen=True)
class Rendered:
    """A chat prompt as its template renders it.

    Attributes:
        turns: the turns that were kept.
        text: the whole prompt.
        replaces_space: whether the template stands for a tag without a space behind it, so that a response loses its own.
    """

    turns: Turns
    text: RenderedText
    replaces_space: bool = False


@dataclass(frozen=True)
class Prompt:
    """A prompt as the model reads it.

    Attributes:
        ids: its token ids.
        cut: how many were cut off.
        end: the end token of responses.
        chat: the chat as its template renders it; None for plain text.
        dropped: places of the turns that were cut off whole, from 0.
        typed: whether its text contains the name of a control token, which stays text.
        around: what the template writes around a response.
        altered: whether the template left out or changed some text of a turn that is not the assistant's, white space apart.
    """

    ids: list[int]
    cut: int
    end: int
    chat: Rendered | None = None
    dropped: tuple[int, ...] = ()
    typed: bool = False
    around: Around = Around()
    altered: bool = False

    @property
    def templated(self) -> bool:
        """Whether a chat template was used."""
        return self.chat is not None


@dataclass(frozen=True)
class EncodedResponse:
    """A response as it is trained on.

    Attributes:
        ids: its token ids, with the end token unless it was truncated.
        text: their text.
        cut: how many tokens were cut off.
        apart: whether it was tokenized apart from its prompt, because the rendered chat does not begin with the prompt's tokens.
        typed: whether its text contains the name of a control token, which stays text.
        altered: whether the chat template left out or changed some of its text, white space apart.
    """

    ids: list[int]
    text: str
    cut: int
    apart: bool = False
    typed: bool = False
    altered: bool = False

    @property
    def truncated(self) -> bool:
        return self.cut > 0
