"""What chat templates and tokenizers did to the examples of a split.

Rejected rows, dropped turns, responses that are altered or apart; text that the tokenizer cannot write.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from aloll_cli.files import write_text
from aloll_cli.foreign import damaged, dict_of, json_lines_of, text
from aloll_cli.store.tables import open_blocks

COLUMNS = ("apart", "typed", "foreign", "turns_cut", "system_cut")
LISTS = ("foreign", "turns_cut")  # columns that hold several things of a row, or none
LOST = ("unknown_prompts", "unknown_responses", "changed_prompts", "changed_responses")  # by text/spelling.py
ALTERED = ("altered", "altered_prompts")  # by the chat template: responses, prompts
NAMED = 3  # most names in a warning


UNKNOWN = "characters that the model's tokenizer cannot write; its unknown token"
CHANGED = "the model's tokenizer changes their letters or white space, such as capitals or line breaks"


@dataclass(frozen=True)
class ChatCounts:
    """Counts of a split's rows.

    Attributes:
        rows: all of them, without the rejected ones.
        apart: those whose response is tokenized apart from its prompt.
        typed: those in whose text somebody typed the name of a control token.
        foreign: those whose text has names of control tokens that the tokenizer lacks.
        foreign_names: the commonest of these names, the commonest first.
        turns_cut: those whose prompt lost whole turns.
        system_cut: those whose prompt lost the system turn.
        altered: those of whose response the template left out or changed some text.
        altered_prompts: those of whose prompt it did so, thoughts of the assistant apart.
        unknown_prompts, unknown_responses: those with characters for which the tokenizer has only its unknown token.
        changed_prompts, changed_responses: others whose text the tokenizer changes.
        first: the id of the first row of each of these kinds, where there is one.
        rejected: ``id`` and ``why`` of each row that the template rejects and that task.on_bad_row=skip left out.
    """

    rows: int
    apart: int
    typed: int
    foreign: int
    foreign_names: tuple[str, ...]
    turns_cut: int
    system_cut: int
    altered: int
    altered_prompts: int
    unknown_prompts: int
    unknown_responses: int
    changed_prompts: int
    changed_responses: int
    first: dict[str, str] = field(repr=False)
    rejected: list[dict[str, str]] = field(repr=False)

    def warnings(self, split: str) -> list[str]:
        """What a user should know before training on this split."""
        found = {
            "apart": "responses are tokenized apart from their prompt: the chat template writes other tokens for the whole chat "
            "than for the prompt",
            "altered": "responses are not trained as they are: the chat template leaves out or changes some of their text, "
            "such as thoughts",
            "altered_prompts": "prompts are not read as they are: the chat template leaves out or changes some of their text",
            "typed": "rows contain the name of a control token; it stays text (turns of a chat belong in the column messages)",
            "foreign": f"rows contain control tokens of other models, which are ordinary text to this one "
            f"({', '.join(self.foreign_names)}): write such rows as turns in the column messages, or choose the model that they "
            "were formatted for",
            "system_cut": "prompts lost their system turn, which left no room for the last one; a template may write its own "
            "(a larger task.max_prompt_tokens keeps it)",
            "unknown_responses": f"responses have {UNKNOWN} is trained in their place",
            "changed_responses": f"responses are not trained as they are: {CHANGED}",
            "unknown_prompts": f"prompts have {UNKNOWN} is read in their place",
            "changed_prompts": f"prompts are not read as they are: {CHANGED}",
        }
        return [
            f"{getattr(self, name):,} of {self.rows:,} {split} {what}. The first: {self.first[name]}."
            for name, what in found.items()
            if getattr(self, name)
        ]


def chat_counts(examples: Path, split: str) -> ChatCounts:
    """The counts of a split.

    Args:
        examples: folder of the encoded examples.
        split: the split.
    """
    import pyarrow.compute as pc

    rows, counts = open_blocks(examples / split, ["id", *COLUMNS]), dict.fromkeys(COLUMNS, 0)
    first: dict[str, str] = {}
    names: Counter[str] = Counter()
    for batch in rows.batches():
        marks = {name: batch.column(name) for name in COLUMNS}
        names.update(pc.list_flatten(marks["foreign"]).to_pylist())
        marks |= {name: pc.greater(pc.list_value_length(marks[name]), 0) for name in LISTS}
        for name, mark in marks.items():
            if count := pc.sum(mark).as_py() or 0:
                first.setdefault(name, batch.column("id")[pc.index(mark, True).as_py()].as_py())
                counts[name] += count
    noted = {kind: _noted(examples, kind, split) for kind in (*ALTERED, *LOST)}
    first |= {kind: found[0]["id"] for kind, found in noted.items() if found}
    counts |= {kind: len(found) for kind, found in noted.items()}
    commonest = tuple(name for name, _ in names.most_common(NAMED))
    rejected = _noted(examples, "rejected", split)
    return ChatCounts(rows.num_rows, **counts, foreign_names=commonest, first=first, rejected=rejected)


def _noted(examples: Path, kind: str, split: str) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = []
    for file in sorted((examples / kind).glob(f"{split}-*.jsonl")):
        with damaged(file):
            rows += json_lines_of(file, dict_of(text))
    return rows


def note(examples: Path, kind: str, split: str, start: int, rows: list[dict[str, str]]) -> None:
    """Keep something about rows of the block that starts at a row.

    Args:
        examples: folder of the encoded examples.
        kind: rejected, with the reason as ``why``, or one of ALTERED and LOST.
        split: the split.
        start: the first row of the block.
        rows: of each its ``id`` and what there is to say; none writes nothing.
    """
    if not rows:
        return
    folder = examples / kind
    folder.mkdir(exist_ok=True)
    write_text(folder / f"{split}-{start:012d}.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
