"""Conditions on a command line: ``aloll runs variant=seq`` lists the runs with that option."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from aloll_cli.cli.hints import catalogue, unknown
from aloll_cli.cli.options import SECOND, Catalogue
from aloll_cli.cli.quoting import literal
from aloll_cli.errors import UserError
from aloll_cli.settings.groups import GROUPS
from aloll_cli.stages import EVERYWHERE, STAGES

OPTION = re.compile(r"(?P<key>[a-z][\w.]*)=(?P<value>.*)", re.DOTALL)


def filtered(stage: str, words: Sequence[str]) -> list[str]:
    """The words of a stage that lists things, with all options that it does not read itself as its conditions ``where=[…]``.

    Raises:
        UserError: there is no such option, or ``where=`` is typed, too.
    """
    if stage not in STAGES or not STAGES[stage].filters:
        return list(words)
    own = {*STAGES[stage].options, *EVERYWHERE}
    found = [OPTION.fullmatch(word) for word in words]
    are_conditions = [match is not None and match["key"] not in own for match in found]
    meant = [match for match, is_one in zip(found, are_conditions, strict=True) if match and is_one]
    conditions = [condition for match in meant for condition in _conditions(match, stage)]
    if not conditions:
        return list(words)
    if any(match and match["key"] == "where" for match in found):
        raise UserError("where= holds all conditions, or none.", f"aloll {stage} {' '.join(conditions)}")
    others = [word for word, is_one in zip(words, are_conditions, strict=True) if not is_one]
    return [*others, f"where={literal(conditions)}"]


def _conditions(match: re.Match[str], stage: str) -> Iterator[str]:
    """What an option of the line means for a run: of a choice without a class of its own, each option that its file sets."""
    key, value = match["key"], match["value"]
    if key not in (*GROUPS, *SECOND, *catalogue()):
        raise unknown(key, value, [*catalogue(), *GROUPS, *SECOND], stage)
    group = SECOND.get(key, key)
    if group in GROUPS and value in Catalogue().names(key) and value not in (*GROUPS[group], "none", "off"):
        for option in Catalogue().choice(key, value).options.values():
            yield f"{option.key}={option.default}"
    else:
        yield f"{key}={value}"
