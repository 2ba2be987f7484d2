"""Triples of ATOMIC 2020 in two formats: as a prompt for a language model, and as a sentence for a person or a critic."""

from __future__ import annotations

import hashlib
import re

NAMES = ("Alex", "Sam", "Jordan", "Casey", "Robin", "Jamie", "Taylor", "Morgan", "Chris", "Dana", "Lee", "Kim")
PERSON = re.compile(r"\bperson\s?([xyz])\b", re.IGNORECASE)
PROMPT = re.compile(r"<head>(.*)</head> <relation>(.*)</relation> \[GEN\] ", re.DOTALL)

RELATIONS = {  # h: the head, t: the tail, x: PersonX
    "xNeed": "{h}. Before that, {x} needed {t}.",
    "xIntent": "{h}, because {x} wanted {t}.",
    "xReason": "{h}, because {t}.",
    "xWant": "{h}. As a result, {x} wants {t}.",
    "xReact": "{h}. As a result, {x} feels {t}.",
    "xEffect": "{h}. As a result, {x} {t}.",
    "xAttr": "{h}. {x} is seen as {t}.",
    "oWant": "{h}. As a result, others want {t}.",
    "oReact": "{h}. As a result, others feel {t}.",
    "oEffect": "{h}. As a result, others {t}.",
    "HinderedBy": "{h}. What can hinder that: {t}.",
    "Causes": "{h}. That causes: {t}.",
    "HasSubEvent": "{h}. Part of that: {t}.",
    "isAfter": "{h}. Before that, {t}.",
    "isBefore": "{h}. After that, {t}.",
    "isFilledBy": "{h}. What can fill the blank: {t}.",
    "ObjectUse": "{h} can be used to {t}.",
    "AtLocation": "{h} can be found at {t}.",
    "MadeUpOf": "{h} is made up of {t}.",
    "CapableOf": "{h} can {t}.",
    "HasProperty": "{h} is {t}.",
    "Desires": "{h} wants {t}.",
    "NotDesires": "{h} does not want {t}.",
}
TO = ("xNeed", "xIntent", "xWant", "oWant")  # what somebody needs or wants to do
NOT_TO = re.compile(
    r"(to|an?|the|nothing|none|person ?[xyz]|people|they|he|she|it)\b", re.IGNORECASE
)  # a thing, or a whole clause


def as_prompt(head: str, relation: str) -> str:
    """The prompt that a model continues with a tail, in the format that comet-distill was trained on."""
    return f"<head>{head}</head> <relation>{relation}</relation> [GEN] "


def sentence(prompt: str, response: str, key: str) -> str:
    """Prompt and response as one text: a triple as a sentence with names, anything else unchanged.

    Args:
        prompt: from :func:`as_prompt`, or any other.
        response: the tail.
        key: chooses the names; the same for all tails of a prompt, so that they can be compared.
    """
    found = PROMPT.fullmatch(prompt)
    if found is None or found[2] not in RELATIONS:
        return prompt + response
    names = _names(key)
    tail = response.strip()
    if found[2] in TO and not NOT_TO.match(tail):
        tail = f"to {tail}"
    head, tail = (PERSON.sub(lambda p: names[p[1].lower()], text.strip().rstrip(".")) for text in (found[1], tail))
    return RELATIONS[found[2]].format(h=head[:1].upper() + head[1:], t=tail, x=names["x"])


def triple_of(prompt: str, response: str) -> tuple[str, str, str] | None:
    """Head, relation and tail; None if the prompt is not one from :func:`as_prompt`."""
    found = PROMPT.fullmatch(prompt)
    return None if found is None else (found[1].strip(), found[2], response.strip())


def with_names(text: str, key: str) -> str:
    """A text with names for PersonX and PersonY, as :func:`sentence` chooses them by a key."""
    names = _names(key)
    return text.replace("PersonX", names["x"]).replace("PersonY", names["y"])


def _names(key: str) -> dict[str, str]:
    """Three different names, for PersonX, PersonY and PersonZ."""
    start = int(hashlib.sha256(key.encode()).hexdigest()[:8], 16)
    return {person: NAMES[(start + place) % len(NAMES)] for place, person in enumerate("xyz")}
