"""The flags of a stage; whatever has a key is an override."""

from __future__ import annotations

import argparse
import difflib
import re
from dataclasses import fields
from typing import NoReturn

from aloll_cli.cli.hints import familiar
from aloll_cli.command import Command
from aloll_cli.errors import UserError
from aloll_cli.settings.root import Settings


class Parser(argparse.ArgumentParser):
    """Splits a command line into flags and overrides."""

    def __init__(self, command: Command) -> None:
        super().__init__(f"aloll {command.stage}", add_help=False, allow_abbrev=False)
        self._words = command.arguments
        self.add_argument("overrides", nargs="*", metavar="OPTION=VALUE", help="GROUP=CHOICE or OPTION=VALUE")
        self.add_argument("-h", "--help", action="store_true", help="the stage's options; --help all: upstream ones, too")
        self.add_argument("-m", "--multirun", action="store_true", help="one run for each combination of OPTION=a,b")
        self.add_argument("-q", "--quiet", action="store_true", help="warnings, errors and results only")
        self.add_argument("-v", "--verbose", action="store_true", help="more details in the log")
        self.add_argument("-c", "--cfg", choices=["job", "hydra", "all"], help="print the configuration and exit")
        self.add_argument("--resolve", action="store_true", help="with --cfg: resolve interpolations")
        self.add_argument("-p", "--package", help="with --cfg: only this part of it")
        self.add_argument("-cn", "--config-name", help="another root file than config")
        self.add_argument("-cd", "--config-dir", help="a folder with YAML files of your own")
        self.add_argument("--hydra-help", action="store_true", help="Hydra's own help")

    @property
    def flags(self) -> list[str]:
        """Every flag in its long form."""
        return [flag for action in self._actions for flag in action.option_strings if flag.startswith("--")]

    def error(self, message: str) -> NoReturn:
        """Raises UserError with the flag or the option that was probably meant."""
        found = re.search(r"unrecognized arguments: (\S+)", message)
        if found is None:
            raise UserError(f"{message}.", self._listed())
        flag, equals, value = found[1].partition("=")
        what = f"there is no flag {flag}."
        if option := self._option(flag.lstrip("-").replace("-", "_"), value if equals else self._after(flag)):
            raise UserError(what, f"Options have no dashes: {option}")
        if close := difflib.get_close_matches(flag, self.flags, n=1, cutoff=0.7):
            raise UserError(what, f"Did you mean {close[0]}?")
        raise UserError(what, self._listed())

    def _listed(self) -> str:
        return f"{self.prog} --help lists options; flags: {', '.join(self.flags)}."

    def _after(self, flag: str) -> str:
        """The word behind a flag, where that may be its value."""
        words = [*self._words, ""]
        word = words[words.index(flag) + 1] if flag in words else ""
        return "" if word.startswith("-") or "=" in word else word

    def _option(self, name: str, value: str) -> str | None:
        if name.partition(".")[0] in {field.name for field in fields(Settings)}:
            return f"{name}={value or 'VALUE'}"
        return familiar(name, value)
