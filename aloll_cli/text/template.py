"""The chat template of a tokenizer as a function of a chat: the same text on any day, within limits of time and memory."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from aloll_cli.errors import UserError
from aloll_cli.tasks.base import BadRow
from aloll_cli.text.encoded import Turns
from aloll_cli.text.limits import TookTooLong, Watch, memory_limit

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NOW = datetime(2024, 7, 26)  # the date that templates insert: a recipe must give the same tokens on any day
SECONDS = 5.0  # for one chat, which takes about 30 microseconds
BYTES = 10**9  # beyond what the process has
CHARACTERS = 2**26  # of one rendered chat
HINT = "Set task.chat=plain, or choose another model."
SKIP = "Leave such rows out with task.on_bad_row=skip, set task.chat=plain, or choose another model."


class Template:
    """The chat template of a tokenizer."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, thinking: bool) -> None:
        """Raises UserError if thinking is to be turned off and the template has no option for it."""
        self._tokenizer = tokenizer
        # as transformers' apply_chat_template, but for the clock
        self._options: dict[str, Any] = {
            "tools": None, "documents": None, **tokenizer.special_tokens_map,
            "date_string": f"{NOW:%d %b %Y}", "strftime_now": NOW.strftime,
        } | ({} if thinking else {"enable_thinking": False})  # fmt: skip
        if not thinking and "enable_thinking" not in self.source:
            what = "task.chat=without_thinking: the model's chat template has no option enable_thinking."
            raise UserError(what, "task.chat=template")
        self._is_checked = False
        self._accepted: dict[tuple[tuple[str, ...], bool], str] = {}

    @cached_property
    def source(self) -> str:
        """The template itself. Raises UserError if the tokenizer has several and none is the default."""
        try:
            return str(self._tokenizer.get_chat_template())
        except ValueError as error:
            raise UserError("the model has several chat templates and no default one.", HINT) from error

    def render(self, chats: Sequence[Turns], opened: bool) -> list[str | BadRow]:
        """The text of each chat.

        Args:
            chats: the turns of each.
            opened: whether the header of the assistant's next turn follows.

        Returns:
            For each chat its text, or why the template rejects it.

        Raises:
            UserError: the template is no template, does not end, or needs too much memory.
        """
        self._checked()  # outside of the limit, for this may import large libraries
        with memory_limit(BYTES), Watch(SECONDS) as watch:
            return [self._rendered(turns, opened, watch) for turns in chats]

    def _rendered(self, turns: Turns, opened: bool, watch: Watch) -> str | BadRow:
        try:
            self._check(tuple(role for role, _ in turns), opened, watch)
            return watch.call(lambda: self._text(turns, opened))
        except BadRow as refusal:
            return refusal
        except TookTooLong:
            raise UserError(f"the model's chat template does not end: one chat took {SECONDS:g} seconds.", HINT) from None
        except MemoryError:
            raise UserError(f"the model's chat template needs more than {BYTES / 1e9:.1g} GB for one chat.", HINT) from None

    def _check(self, roles: tuple[str, ...], opened: bool, watch: Watch) -> None:
        """Raises BadRow if the template does not render each of these turns exactly once."""
        if (roles, opened) in self._accepted:
            return
        text = watch.call(lambda: self._text(marked(roles), opened))
        for turn, role in enumerate(roles):
            if (count := text.count(mark(turn))) != 1:
                what = "repeats" if count else "omits"
                raise BadRow(f"the model's chat template {what} turn {turn + 1}, by the {role}, of {listed(roles)}", SKIP)
        self._accepted[roles, opened] = text

    def around(self, roles: tuple[str, ...], opened: bool) -> str:
        """The text of a chat of such turns that was rendered before, with a mark in place of what they say."""
        return self._accepted[roles, opened]

    def _text(self, turns: Turns, opened: bool) -> str:
        from jinja2 import TemplateError

        messages = [{"role": role, "content": text} for role, text in turns]
        try:
            text = str(self._compiled.render(messages=messages, add_generation_prompt=opened, **self._options))
        # a template may raise anything of these
        except (TemplateError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200].rstrip(".")
            roles = listed([role for role, _ in turns])
            raise BadRow(f"the model's chat template rejects turns with the roles {roles}: {reason}", SKIP) from error
        if len(text) > CHARACTERS:
            raise MemoryError
        return text

    def _checked(self) -> None:
        """Raises UserError for what is no template, would render a chat differently every time, or cannot be limited."""
        from jinja2 import TemplateSyntaxError, nodes
        from transformers.utils.chat_template_utils import _compile_jinja_template

        if self._is_checked:
            return
        try:
            tree = _compile_jinja_template("").environment.parse(self.source)
        except TemplateSyntaxError as error:
            what = str(error.message).partition(". ")[0].rstrip(".")
            raise UserError(f"the model's chat template is not valid, line {error.lineno}: {what}.", HINT) from error
        used = {node.name for node in tree.find_all((nodes.Filter, nodes.Name))}
        if drawn := {"random", "lipsum"} & used:
            raise UserError(f"the model's chat template draws text at random: it uses {drawn.pop()}.", HINT)
        if next(tree.find_all(nodes.Pow), None) is not None:
            raise UserError("the model's chat template uses **, whose time and memory have no limit.", HINT)
        self._is_checked = True

    @cached_property
    def _compiled(self) -> Any:
        """To be built within the limits: compiling computes constant expressions."""
        from transformers.utils.chat_template_utils import _compile_jinja_template

        return _compile_jinja_template(self.source)


def mark(turn: int) -> str:
    """A text to find a turn by: of private-use characters, which no template contains or strips."""
    return f"\ue000{turn}\ue001"


def marked(roles: Sequence[str]) -> Turns:
    """Turns with a mark in place of each text."""
    return tuple((role, mark(turn)) for turn, role in enumerate(roles))


def listed(roles: Sequence[str]) -> str:
    """Roles as messages name them."""
    return ", ".join(roles) if len(roles) <= 6 else ", ".join(roles[:5]) + f" and {len(roles) - 5} more"
