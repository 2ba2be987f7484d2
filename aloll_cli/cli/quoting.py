"""Values in Hydra's grammar: what a user types as it is, and values of Python."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

QUOTES = ("'", '"')
ITEM = r"""(?:'(?:\\'|[^'])*'|"(?:\\"|[^"])*"|[^,])+"""  # of a list, with commas inside of quotes
LISTS = ("plugins", "where")  # options that are lists of texts
LISTED = re.compile(r"\[\s*[\"'].*[\"']\s*\]", re.DOTALL)  # a list of quoted texts


def with_quotes(overrides: Sequence[str]) -> list[str]:
    """Overrides with the values of ``plugins=``, ``where=`` and ``prompt=`` quoted, which may hold what has a meaning in Hydra.

    ``plugins=mine`` names one folder, ``plugins=[mine,~/more]`` several. A prompt is taken as it is typed;
    ``prompt=['Hi, you','And?']`` and, of texts without commas, ``prompt=[Hi,And?]`` are several.
    """
    return [_prompt(_list(text)) for text in overrides]


def _list(text: str) -> str:
    key, _, value = text.partition("=")
    if key.lstrip("+") not in LISTS or value == "null":
        return text
    if several := re.fullmatch(r"\[([^\[\]]*)\]", value):
        items = [item.strip() for item in re.findall(ITEM, several[1])]
    elif re.fullmatch(r"[^,\[\]{}()]+", value):
        items = [value]
    else:
        return text
    return f"{key}={literal([_unquoted(item) for item in items if item])}"


def _prompt(text: str) -> str:
    key, equals, value = text.partition("=")
    if key.lstrip("+") != "prompt" or not equals or value == "null" or LISTED.fullmatch(value):
        return text
    if several := re.fullmatch(r"\[([^\[\]'\"]*)\]", value):
        return f"{key}={literal([item.strip() for item in several[1].split(',') if item.strip()])}"
    return f"{key}={literal(value)}"


def plugins_override(folders: Sequence[str]) -> str:
    """``plugins=['mine']``."""
    return f"plugins={literal(list(folders))}"


def _unquoted(folder: str) -> str:
    if folder[:1] in QUOTES and folder[-1:] == folder[:1] and len(folder) > 1:
        return folder[1:-1].replace(f"\\{folder[0]}", folder[0])
    return folder


def literal(value: Any, interpolates: bool = False) -> str:
    """A plain value as Hydra reads it.

    Args:
        value: null, a truth value, a number, a text, or a list of these.
        interpolates: whether a text that names a variable of the environment (``${oc.env:…}``) stands for its value.
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{','.join(literal(item, interpolates) for item in value)}]"
    if not isinstance(value, str):
        return repr(value)
    is_meant = interpolates and "${oc.env:" in value
    text = value if is_meant else re.sub(r"(\\*)(\$\{)", lambda found: found[1] * 2 + "\\" + found[2], value)
    # backslashes count for themselves, but where a quote follows
    return "'" + re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + found[2].replace("'", "\\'"), text) + "'"
