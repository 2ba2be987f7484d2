"""Chats as the text that a template writes. Its control tokens are those of the template, and none is of what people said.

A name of a control token in a turn is hidden from the template. It can also arise where there was none: a template that changes
texts makes a name of one that is written a little differently, and one that puts texts side by side joins its halves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache

from aloll_cli.tasks.base import BadRow
from aloll_cli.text.control import ControlTokens
from aloll_cli.text.encoded import Hides, RenderedText, Turns
from aloll_cli.text.template import Template


class Rendering:
    """Renders chats by a template."""

    def __init__(self, template: Template, control: ControlTokens) -> None:
        self._template, self._control = template, control
        self._written = cache(self._written_by_the_template)

    def texts(self, chats: Sequence[Turns], least: Sequence[Hides], opened: bool) -> list[RenderedText | BadRow]:
        """The text of each chat, or why the template rejects it.

        Args:
            chats: the turns of each.
            least: what is hidden of each chat, at least.
            opened: whether the header of the assistant's next turn follows.
        """
        typed = [any(self._control.typed(text) for _, text in turns) for turns in chats]
        hides = [max(given, Hides.names if has else Hides.nothing) for given, has in zip(least, typed, strict=True)]
        found = self._rendered(chats, hides, opened)
        doubtful = [
            i for i, text in enumerate(found) if isinstance(text, RenderedText) and self._has_more(chats[i], text, opened)
        ]
        again = self._rendered([chats[i] for i in doubtful], [Hides.ends] * len(doubtful), opened)
        for i, text in zip(doubtful, again, strict=True):
            if isinstance(text, RenderedText) and not self._has_more(chats[i], text, opened):
                found[i] = text  # else it is the template that writes more control tokens around some texts
        return found

    def _rendered(self, chats: Sequence[Turns], hides: Sequence[Hides], opened: bool) -> list[RenderedText | BadRow]:
        given = [
            tuple((role, self._control.hidden(text, by is Hides.ends)) for role, text in turns) if by else turns
            for turns, by in zip(chats, hides, strict=True)
        ]
        texts = self._template.render(given, opened)
        return [text if isinstance(text, BadRow) else RenderedText(text, by) for text, by in zip(texts, hides, strict=True)]

    def _has_more(self, turns: Turns, text: RenderedText, opened: bool) -> bool:
        """Whether a chat has control tokens that the template does not write around such turns."""
        names = self._control.name.findall(text.text)
        return bool(Counter(names) - self._written(tuple(role for role, _ in turns), opened))

    def _written_by_the_template(self, roles: tuple[str, ...], opened: bool) -> Counter[str]:
        return Counter(self._control.name.findall(self._template.around(roles, opened)))
