"""What the data say about the prompts that were answered: logged responses, knowledge, and the part they come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aloll_cli.settings.choices import References

if TYPE_CHECKING:
    import pyarrow as pa

OTHER = "other"  # prompts without a subset, where others have one


@dataclass(frozen=True)
class LoggedPrompts:
    """One entry a prompt, in the order asked for.

    Attributes:
        references: logged responses that an answer is held against.
        knowledge: what the answer should rest on, or None.
        subsets: the part of the data that the prompt comes from, or None where the data have no parts. A prompt that several
            parts have belongs to the first that asked it, so that parts share none and add up to the whole.
    """

    references: list[list[str]]
    knowledge: list[str | None]
    subsets: list[str] | None


def logged(raw: pa.Table, groups: Sequence[str], which: References) -> LoggedPrompts:
    """Look prompts up.

    Args:
        raw: the rows of a split, as data holds them: before any choice of responses to learn from.
        groups: (G,) the prompts' identities.
        which: which logged responses are references.
    """
    rows: dict[str, list[int]] = {group: [] for group in groups}
    for i, group in enumerate(raw.column("group").to_pylist()):
        if group in rows:
            rows[group].append(i)
    first = raw.take([rows[group][0] for group in groups])
    columns = raw.select(["response", "stored", "position"]).to_pydict()
    subsets = first.column("subset").to_pylist()
    return LoggedPrompts(
        references=[_references(rows[group], columns, which) for group in groups],
        knowledge=[_knowledge(parts) for parts in first.column("parts").to_pylist()],
        subsets=[subset or OTHER for subset in subsets] if any(subsets) else None,
    )


def _references(rows: list[int], columns: dict[str, list[Any]], which: References) -> list[str]:
    responses, stored, position = (columns[name] for name in ("response", "stored", "position"))
    rated = [i for i in rows if stored[i] is not None]
    if which is References.all:
        chosen = rows
    elif rated:
        chosen = [max(rated, key=lambda i: stored[i])]
    else:
        chosen = [i for i in rows if position[i] == 0] or rows[:1]
    return [responses[i] for i in chosen]


def _knowledge(parts: list[dict[str, Any]]) -> str | None:
    found = [part["text"] for part in parts if part["source"]]
    return "\n".join(found) if found else None
