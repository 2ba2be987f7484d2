"""A command line, split into flags and overrides; whatever has a key is an override."""

from __future__ import annotations

import argparse
import re
from typing import NoReturn

from aloll_cli.cli.flags import FLAGS
from aloll_cli.cli.meant import meant_by_flag
from aloll_cli.command import Command
from aloll_cli.errors import UserError

SWITCHES = "".join(name[1] for flag in FLAGS for name in flag.names if len(name) == 2 and not flag.value)
LONG = [name for flag in FLAGS for name in flag.names if name.startswith("--")]
KNOWN = {name for flag in FLAGS for name in flag.names}


class Parser(argparse.ArgumentParser):
    """The parser of a stage's command line."""

    def __init__(self, command: Command) -> None:
        super().__init__(f"aloll {command.stage}", add_help=False, allow_abbrev=False)
        self._words = list(command.arguments)
        self.add_argument("overrides", nargs="*", metavar="OPTION=VALUE", help="GROUP=CHOICE or OPTION=VALUE")
        for flag in FLAGS:
            if flag.value:
                self.add_argument(*flag.names, metavar=flag.value, choices=flag.choices or None, help=flag.what)
            else:
                self.add_argument(*flag.names, action="store_true", help=flag.what)

    def parsed(self) -> argparse.Namespace:
        """The flags, and the overrides in their order.

        Raises:
            UserError: a flag is unknown or lacks its value.
        """
        for place, word in enumerate(self._words):
            if word == "--":
                break
            # argparse would take -variant=seq for -v with a value
            if re.match("-[^-].", word) and word not in KNOWN and not re.fullmatch(f"-(?:[{SWITCHES}]+|[cp].+)", word):
                self._refuse(word, place)
        return self.parse_intermixed_args(self._words)

    def error(self, message: str) -> NoReturn:
        """Raises UserError with the flag or the option that was probably meant."""
        if found := re.search(r"unrecognized arguments: (\S+)", message):
            self._refuse(found[1], self._words.index(found[1]))
        if found := re.search(r"argument \S*?(--\w[\w-]*): ignored explicit argument '(.*)'", message):
            hint = f"{self.prog} --help all" if found[1] == "--help" and found[2] == "all" else f"Write it alone: {found[1]}"
            raise UserError(f"{found[1]} takes no value.", hint)
        raise UserError(f"{message}.", self._listed())

    def _refuse(self, word: str, place: int) -> NoReturn:
        flag, equals, value = word.partition("=")
        behind = self._words[place + 1] if place + 1 < len(self._words) else ""
        given = value if equals else "" if behind.startswith("-") or "=" in behind else behind
        raise UserError(f"there is no flag {flag}.", meant_by_flag(self.prog, flag, given, LONG) or self._listed())

    def _listed(self) -> str:
        return f"{self.prog} --help lists options; flags: {', '.join(LONG)}."
