"""What was meant by words of a command line that are neither flags nor overrides, and by choices that do not exist."""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Callable, Sequence
from itertools import takewhile
from pathlib import Path

from aloll_cli.cli.elsewhere import CALLED, NOTHING, instead
from aloll_cli.cli.hints import catalogue, example, typed
from aloll_cli.cli.options import SECOND
from aloll_cli.settings.groups import GROUPS
from aloll_cli.stages import STAGES

PATH = re.compile(r".*/.*|~.*|\.+|.*\.(?:jsonl|json|csv|tsv|parquet|gz|txt|py|yaml)")
ROWS = re.compile(r".*\.(?:jsonl|json|csv|tsv|parquet|gz)")
DATA = "task=local task.path={}"
PLACES = {  # by stage: what a path alone is meant to be; the data where a stage is not listed
    "compare": "runs=[{}]", "report": "runs=[{}]", "evaluate": "policy={}", "export": "to={}", "generate": "policy={}",
    "chat": "policy={}", "runs": "output_dir={}",
    "ls": "output_dir={}", "clean": "output_dir={}",
}  # fmt: skip
# by group: what a path or the name of a repository is meant to be
FILES = {
    "task": f"For a file or folder of yours: {DATA}",
    "model": "For a folder or a name on the hub: model=pretrained model.path={}",
    "adapter": "For an adapter in a folder or on the hub: model.adapter={} adapter=pretrained",
    "reward": "For a model in a folder or on the hub: reward=classifier reward.path={}",
}
PYTHON = "reward=function reward.path={}"
OTHER_MODEL = "For any other model: model=pretrained model.path={}. "
Choices = Callable[[str], Sequence[str]]  # the choices of a group


def meant_by_flag(prog: str, flag: str, value: str, flags: Sequence[str]) -> str | None:
    """What to type instead of a flag that does not exist, or None.

    Args:
        prog: ``aloll STAGE``.
        flag: as it was typed, without its value.
        value: its value, or "".
        flags: the long flags that exist.
    """
    bare, stage = flag.lstrip("-"), prog.rpartition(" ")[2]
    if bare in ("all", "?"):
        return f"{prog} --help{' all' if bare == 'all' else ''}"
    for known in flags:
        if bare.lower() == known[2:] or (bare.isupper() and bare.lower() == known[2]):
            return f"Did you mean {known}?"
    if found := typed(bare, value, stage):
        return f"Options have no dashes: {found}"
    if advice := instead(bare):
        return advice
    if close := difflib.get_close_matches(flag.lower(), flags, n=1, cutoff=0.7):
        return f"Did you mean {close[0]}?"
    return f"Options have no dashes: {found}" if len(bare) > 2 and (found := _close(bare, value)) else None


def meant_by_word(stage: str, words: Sequence[str], place: int, choices: Choices) -> str:
    """What to type instead of a word that is no override.

    Args:
        stage: its name.
        words: all overrides as they were typed.
        place: of the word among them.
        choices: the choices of each group.
    """
    word, before = words[place], words[place - 1] if place else ""
    behind = next((other for other in words[place + 1 :] if other not in ("=", ":")), "")
    name, mark, rest = re.fullmatch(r"([^:=]*)(:?=?)(.*)", word, re.DOTALL).groups()  # type: ignore[union-attr]
    if word.lower() in ("help", "?", "all") and stage in STAGES:
        return f"aloll {stage} --help{' all' if word.lower() == 'all' and STAGES[stage].makes else ''}"
    if before.endswith("=") and before.count("=") == 1 and before != "=":
        return f"Write it without spaces: {_quoted(before + word)}"
    value = rest or ("" if _is_override(behind) else behind.lstrip("=:"))
    if found := typed(name, value, stage) if value else None:
        return f"Write it as one word: {_quoted(found)}"
    if advice := instead(name):
        return advice
    if f"{stage}-{word}" in STAGES:
        return f"Did you mean aloll {stage}-{word}?"
    if found := None if mark else typed(name, "", stage):
        return f"Write it with a value: {found}"
    if named := _choice(stage, word, choices):
        return f"Did you mean {named}?"
    if found := _stage(word):
        return f"One stage per command: {found}"
    if _takes_text(before):
        rest = takewhile(lambda other: not _is_override(other), words[place:])
        return f"Quote a value with spaces: '{' '.join([before, *rest])}'"
    if found := _path(stage, word):
        return f"Did you mean {found}?"
    if value and (found := _close(name, value)):
        return f"Did you mean {_quoted(found)}?"
    if stage == "generate":
        return f"A prompt: {_quoted(f'prompt={word}')}"
    return "Write GROUP=CHOICE or OPTION=VALUE, such as seed=2"


def meant_by_choice(group: str, place: str, value: str, choices: Choices) -> str:
    """What to type instead of a choice that does not exist; "" where nothing comes close.

    Args:
        group: the folder of its choices.
        place: where it is set, which for a second reward is ``test_reward``.
        value: as it was typed.
        choices: the choices of each group.
    """
    here = choices(group)
    by_case = {name.lower().replace("-", "_"): name for name in here}
    name = value.lower().replace("-", "_").removesuffix(".yaml")
    if name in NOTHING:
        off = next((off for off in ("none", "off") if off in here), "null" if place in SECOND else None)
        return f"For none: {place}={off}. " if off else ""
    if (group, name) in CALLED:
        return f"Did you mean {place}={CALLED[group, name]}? "
    if name in by_case:
        return f"Did you mean {place}={by_case[name]}? "
    if elsewhere := [f"{other}={value}" for other in GROUPS if other != group and value in choices(other)]:
        return f"Did you mean {' or '.join(elsewhere)}? "
    if group == "reward" and value.endswith(".py"):
        return f"For a function of yours: {PYTHON.format(value)}. "
    if group in FILES and PATH.fullmatch(value):
        return f"{FILES[group].format(value)}. "
    begun = [f"{place}={choice}" for choice in here if len(name) > 2 and choice.startswith(name)]
    close = [f"{place}={by_case[choice]}" for choice in difflib.get_close_matches(name, by_case, n=1)]
    found = f"Did you mean {' or '.join(begun or close)}? " if begun or close else ""
    return found + (OTHER_MODEL.format(value) if group == "model" else "")


def meant_by_halves(words: Sequence[str], place: int) -> str | None:
    """What to type instead of an override that goes on in the next words, or holds several; None for another one."""
    text = words[place]
    key, _, value = text.partition("=")
    if value.startswith("[") and "]" not in value or value.endswith(","):
        rest = list(takewhile(lambda other: not _is_override(other), words[place + 1 :]))
        return f"Write it without spaces: {''.join([text, *rest])}" if rest else None
    parts = re.split(r"[\s,;]+", text)
    if len(parts) > 1 and all(_is_override(part) for part in parts):
        return f"Write each as a word of its own: {' '.join(parts)}"
    return None


def _is_override(word: str) -> bool:
    return re.match(r"[^=]+=", word) is not None


def _takes_text(override: str) -> bool:
    """Whether an override sets an option that is a text, such as a path."""
    key, equals, value = override.partition("=")
    option = catalogue().get(key.lstrip("+")) if equals and value else None
    return option is not None and option.allowed.startswith("string")


def _quoted(text: str) -> str:
    """As a shell needs it; a list keeps its brackets bare, as messages show them."""
    return text if re.fullmatch(r"[^\s'\"$&;|<>()*?`\\#]*", text) else shlex.quote(text)


def _choice(stage: str, word: str, choices: Choices) -> str:
    """The groups with a choice of that name, or with the file that a path names."""
    *above, name = word.removesuffix(".yaml").replace(".", "/").split("/")
    groups = [above[-1]] if above and above[-1] in GROUPS else [] if above else [*GROUPS]
    found = [f"{group}={name.lower()}" for group in groups if name.lower() in choices(group)]
    if stage in ("compare", "report") and found and found[0].startswith("variant="):
        return f"against={name.lower()} (the baseline), or runs=[FOLDER,FOLDER] to choose runs"
    return " or ".join(found)


def _stage(word: str) -> str | None:
    """The stage that a word names."""
    name = word.lower().replace("_", "-")
    return f"aloll {name}" if name in STAGES else None


def _path(stage: str, word: str) -> str | None:
    """The option that a path without a name is meant to be; None where the word is no path."""
    if not (PATH.fullmatch(word) or Path(word).exists() or stage == "export") or (not word.strip(".") and stage not in PLACES):
        return None
    if word.endswith(".py"):
        return PYTHON.format(_quoted(word))
    is_data = ROWS.fullmatch(word) is not None and stage == "evaluate"
    return (DATA if is_data else PLACES.get(stage, DATA)).format(_quoted(word))


def _close(name: str, value: str) -> str | None:
    """The option whose name comes closest, with the value."""
    if not re.fullmatch(r"[\w.+-]+", name):
        return None
    known = {key.lower(): key for key in (*GROUPS, *SECOND, *catalogue())}
    close = difflib.get_close_matches(name.strip("+").replace("-", "_").lower(), known, n=1, cutoff=0.75)
    return (f"{known[close[0]]}={value}" if value else example(known[close[0]])) if close else None
