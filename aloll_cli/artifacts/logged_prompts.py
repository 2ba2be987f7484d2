"""What the data contain for evaluated prompts: logged responses, knowledge, and subsets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aloll_cli.artifacts.raw_table import open_data
from aloll_cli.settings.choices import References, Words
from aloll_cli.tasks.base import SPLITS

if TYPE_CHECKING:
    import pyarrow as pa

    from aloll_cli.metrics.words import TextTokenizer

OTHER = "other"  # subset of prompts without one, if others have one


@dataclass(frozen=True)
class LoggedPrompts:
    """One entry per prompt, in the order of the request.

    Attributes:
        references: logged responses that a generated one is compared with (BLEU, ROUGE).
        knowledge: text that the response should be based on, or None.
        subsets: the subset of the data that the prompt comes from, or None if the data have no subsets. A prompt in several
            subsets counts for the first one, so that subsets are disjoint and add up to the whole.
    """

    references: list[list[str]]
    knowledge: list[str | None]
    subsets: list[str] | None


def logged(raw: pa.Table, groups: Sequence[str], which: References) -> LoggedPrompts:
    """Look prompts up.

    Args:
        raw: the raw rows of a split, before selection.
        groups: (G,) ids of the prompts.
        which: which logged responses are references.
    """
    rows = _rows_of(raw, groups)
    first = raw.take([rows[group][0] for group in groups])
    columns = raw.select(["response", "stored", "position"]).to_pydict()
    subsets = first.column("subset").to_pylist()
    return LoggedPrompts(
        references=[_references(rows[group], columns, which) for group in groups],
        knowledge=[_knowledge(parts) for parts in first.column("parts").to_pylist()],
        subsets=[subset or OTHER for subset in subsets] if any(subsets) else None,
    )


def words_of(directory: Path, words: Words) -> tuple[TextTokenizer, dict[str, Any]]:
    """What counts as a word in metrics of the responses to some data's prompts.

    Args:
        directory: the raw rows.
        words: the option.

    Returns:
        The tokenizer; and, for metrics.json and ``aloll inspect``, its name, the option, and the shares of the letters in the
        responses of all splits that an automatic choice is made by.
    """
    from aloll_cli.metrics.words import TOKENIZERS, by_script, letter_shares

    batches = (batch for split in SPLITS for batch in open_data(directory, split, ["response"]).batches())
    letters = letter_shares(batch.column("response").to_pylist() for batch in batches)
    tokenizer = by_script(letters) if words is Words.auto else TOKENIZERS[words.name]
    return tokenizer, {"tokenizer": tokenizer.name, "unit": tokenizer.unit, "option": words.name, "letters": letters}


def best_logged(raw: pa.Table, groups: Sequence[str]) -> list[tuple[str, float | None]]:
    """The best logged response to each prompt, and its stored reward.

    Args:
        raw: columns group, response, stored and position of a split.
        groups: ids of prompts, which are all in it.
    """
    rows = _rows_of(raw, groups)
    columns = raw.select(["response", "stored", "position"]).to_pydict()
    chosen = [_best(rows[group], columns)[0] for group in groups]
    return [(columns["response"][i], columns["stored"][i]) for i in chosen]


def _rows_of(raw: pa.Table, groups: Sequence[str]) -> dict[str, list[int]]:
    """The rows of each prompt."""
    rows: dict[str, list[int]] = {group: [] for group in groups}
    for i, group in enumerate(raw.column("group").to_pylist()):
        if group in rows:
            rows[group].append(i)
    return rows


def _references(rows: list[int], columns: dict[str, list[Any]], which: References) -> list[str]:
    return [columns["response"][i] for i in (rows if which is References.all else _best(rows, columns))]


def _best(rows: list[int], columns: dict[str, list[Any]]) -> list[int]:
    """The response with the highest stored reward; without any the first, or those that the data put first."""
    stored, position = columns["stored"], columns["position"]
    if rated := [i for i in rows if stored[i] is not None]:
        return [max(rated, key=lambda i: stored[i])]
    return [i for i in rows if position[i] == 0] or rows[:1]


def _knowledge(parts: list[dict[str, Any]]) -> str | None:
    found = [part["text"] for part in parts if part["source"]]
    return "\n".join(found) if found else None
