"""Helpful and Harmless Assistant: Anthropic's HH-RLHF dialogues.

A row in PRO's format, two responses to one dialogue with the raw logits of a reward model:
``{"prefix": [["<|prompter|>Hi", "<|assistant|>"], …the same…], "suffix": ["Hello!", "What?"], "reward": [0.7, -0.4],
"meta": {"path": "…/hhrlhf/helpful-base/dev.jsonl", …}}``
A row in the hub's format: ``{"chosen": "\\n\\nHuman: Hi\\n\\nAssistant: Hello!", "rejected": "…"}``

As plain text a prompt is, to the byte, what the public adapter timdettmers/qlora-hh-rlhf-7b was trained on: SYSTEM, a line break,
and the tagged turns, stripped. It ends in ``Assistant:``; the response begins with the space.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from aloll_cli.tasks.base import BadRow, Dropped, Part, Record, Task, Turn, expected, number, shown, text_field, unicode

SYSTEM = (
    "A chat between a curious human and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
HUMAN, ASSISTANT = " ### Human: ", " ### Assistant: "
PRO_TAGS = {"<|prompter|>": HUMAN, "<|assistant|>": ASSISTANT}
SUBSETS = ("harmless-base", "helpful-base", "helpful-online", "helpful-rejection-sampled")
HUB_TAGS = {"Human": HUMAN, "Assistant": ASSISTANT}
TAGS = {"user": HUMAN, "assistant": ASSISTANT}


@dataclass(kw_only=True)
class Hha(Task):
    """Helpful and harmless dialogues with two responses each, in PRO's format or the hub's (arXiv 2204.05862)."""

    version: ClassVar[int] = 2  # prompts to the byte; responses begin with a space
    hub = "Anthropic/hh-rlhf"
    licence = "mit"

    def records(self, row: dict[str, Any]) -> Sequence[Record]:
        turns, responses, rewards = _pro(row) if "prefix" in row else _hub(row)
        if any(response.endswith(":") for response in responses):
            raise Dropped("a response ends in a colon")
        subset = _subset(row.get("meta"))
        parts = (Part(SYSTEM, "system"), *_parts(turns))
        return [
            Record(parts, self.separator("", response, is_chat=True) + response, reward, position, subset)
            for position, (response, reward) in enumerate(zip(responses, rewards, strict=True))
        ]

    def separator(self, prompt: str, response: str, is_chat: bool) -> str:
        return " "  # tokenizers attach it to the word that follows

    def asked(self, text: str) -> Sequence[Part]:
        return self.conversation([Turn(role="user", content=text)])

    def conversation(self, messages: Sequence[Turn]) -> Sequence[Part]:
        system = next((turn["content"] for turn in messages if turn["role"] == "system"), SYSTEM)
        turns = [(TAGS[turn["role"]], turn["content"].strip()) for turn in messages if turn["role"] != "system"]
        return (Part(system, "system"), *_parts([*turns, (ASSISTANT, "")]))


Turns = list[tuple[str, str]]


def _parts(turns: Turns) -> list[Part]:
    """Tagged turns: the first on a line of its own, without the space before its tag; an empty last one without that after it."""
    tags = [tag for tag, _ in turns]
    tags[0] = "\n" + tags[0].lstrip()
    if not turns[-1][1]:
        tags[-1] = tags[-1].rstrip()
    return [Part(text, _role(tag), prefix=prefix) for (tag, text), prefix in zip(turns, tags, strict=True)]


def _role(tag: str) -> str:
    return "user" if tag == HUMAN else "assistant"


def _pro(row: dict[str, Any]) -> tuple[Turns, list[str], list[float | None]]:
    prefix, suffix, reward = row["prefix"], row.get("suffix"), row.get("reward")
    if not isinstance(suffix, list) or not all(isinstance(text, str) for text in suffix):
        raise BadRow(expected("a list of texts", suffix, "suffix"))
    if not isinstance(reward, list) or len(reward) != len(suffix):
        raise BadRow(expected(f"{len(suffix)} numbers", reward, "reward"))
    if not isinstance(prefix, list) or not prefix or any(turns != prefix[0] for turns in prefix):
        raise BadRow('field "prefix" must contain the same turns for each response')
    return (
        [_turn(text) for text in prefix[0]],
        [unicode(t, "suffix").strip() for t in suffix],
        [number(r, "reward") for r in reward],
    )


def _turn(text: Any) -> tuple[str, str]:
    for tag, ours in PRO_TAGS.items():
        if isinstance(text, str) and text.startswith(tag):
            return ours, unicode(text, "prefix")[len(tag) :].strip()
    raise BadRow(f'field "prefix": {shown(text)} starts with neither <|prompter|> nor <|assistant|>')


def _subset(meta: Any) -> str | None:
    """The folder of HH-RLHF that PRO took a row from; None in the hub's format, which does not say."""
    path = str(meta.get("path", "")) if isinstance(meta, dict) else ""
    return next((name for name in SUBSETS if name in path.split("/")), None)


def _hub(row: dict[str, Any]) -> tuple[Turns, list[str], list[float | None]]:
    if isinstance(row.get("chosen"), list):
        raise BadRow(expected("the text of a dialogue", row["chosen"], "chosen"), "Chats as lists of turns: task=local")
    chosen, rejected = (_dialogue(text_field(row, name), name) for name in ("chosen", "rejected"))
    if chosen[:-1] != rejected[:-1]:
        raise Dropped("chosen and rejected answer different prompts")
    prompt = [*chosen[:-1], (ASSISTANT, "")]
    return prompt, [chosen[-1][1], rejected[-1][1]], [None, None]


def _dialogue(text: str, name: str) -> Turns:
    pieces = re.split(r"(?:^|\n\n)(Human|Assistant):", text)
    turns = [(HUB_TAGS[tag], said.strip()) for tag, said in zip(pieces[1::2], pieces[2::2], strict=True)]
    if len(turns) < 2 or turns[-1][0] != ASSISTANT:
        hint = "The rows of HH-RLHF hold whole dialogues. Other pairs of chosen and rejected: task=local."
        raise BadRow(expected("turns that end with the assistant's", text, name), hint)
    return turns
