"""What a model will see of a data set: statistics and a few examples."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aloll_cli.artifacts.as_seen import Pairs, column_hashes, count_pairs, form_hashes, shared_prompts, text_hashes
from aloll_cli.artifacts.chat_counts import LOST, chat_counts
from aloll_cli.artifacts.logged_prompts import words_of
from aloll_cli.artifacts.raw_table import open_data
from aloll_cli.artifacts.rewards import ScoredBy, load_components, load_rewards
from aloll_cli.foreign import anything, checked_json, dict_of
from aloll_cli.keys import distinct, parts
from aloll_cli.reports.token_text import TokenText, cut_mark, marked
from aloll_cli.settings.choices import Words
from aloll_cli.store.tables import open_blocks, read_blocks, read_numbers
from aloll_cli.tasks.base import SPLITS, BadRow, Task
from aloll_cli.text.encoding import Encoder
from aloll_cli.text.examples import keys_of, prompt_codes

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from aloll_cli.arrays import FloatArray, IntArray

PERCENTILES = (0, 5, 25, 50, 75, 95, 100)
BINS = 10  # of a histogram
SHOWN = 3  # examples, or more if there are more kinds of them
# options that select the examples
CHOICE = ("subsets", "unrated", "min_reward", "max_reward", "responses", "limit", "limit_eval", "truncated", "noise")
UNCUT = 2**31 - 1
KINDS = ("prompt_cut", "response_cut", "apart", "typed")  # columns that mark what a user should see an example of


def inspected(
    data: Path,
    examples: Path,
    rewards: dict[str, Path],
    scored_by: ScoredBy,
    task: Task,
    tokenizer: PreTrainedTokenizerBase,
    words: Words,
) -> dict[str, Any]:
    """What ``aloll inspect`` shows, as plain values for JSON.

    Args:
        data: folder of the raw rows.
        examples: folder of the encoded examples.
        rewards: folder of the rewards by split; empty to use the stored rewards.
        scored_by: the reward that they come from.
        task: the task.
        tokenizer: the tokenizer that the examples were encoded with.
        words: what counts as a word in the metrics of ``aloll evaluate``.
    """
    return {
        "rows": checked_json(data / "counts.json", dict_of(anything)),
        "words": words_of(data, words)[1],
        "choice": {name: _plain(getattr(task, name)) for name in CHOICE},
        "splits": {split: _split(data, examples, split) for split in SPLITS},
        "shared_prompts": 0,  # splits that share a prompt are an error before this
        "shared_prompts_but_for_form": shared_prompts(examples, form_hashes),
        "shared_prompts_as_seen": shared_prompts(examples),
        "pairs": {split: vars(_pairs(examples / split, rewards.get(split))) for split in SPLITS},
        "rewards": {split: _rewards(examples / split, rewards.get(split), scored_by) for split in SPLITS},
        "examples": _shown(data, examples / "train", task, tokenizer),
    }


def _plain(value: Any) -> Any:
    return value.name if isinstance(value, Enum) else value


def _split(data: Path, examples: Path, split: str) -> dict[str, Any]:
    """Counts, truncation and token lengths of one split's examples."""
    found, noise = _figures(examples / split)
    count = len(found["key"])
    return {
        "examples": count,
        "left_out": open_data(data, split, ["position"]).num_rows - count,  # not selected, or dropped as too long
        "prompts": distinct(found["group"]),
        "noise": noise,
        "duplicates": count - distinct(found["key"]),
        "conflicting_ratings": _conflicts(data, split),
        "prompt_tokens": percentiles(found["prompt"]),
        "response_tokens": percentiles(found["response"]),
        "prompts_cut": _cuts(found["prompt_cut"]),
        "responses_cut": _cuts(found["response_cut"]),
        "chats": _chats(examples, split),
    }


def _figures(folder: Path) -> tuple[dict[str, Any], int]:
    """(N,) lengths and cuts in tokens, keys of prompts and of whole texts, of a split's examples; and how many are noise."""
    rows = open_blocks(folder, ["prompt_ids", "prompt_cut", "response", "response_ids", "response_cut", "group", "noise"])
    counts = ("prompt", "response", "prompt_cut", "response_cut")
    found: dict[str, Any] = {name: np.empty(rows.num_rows, dtype=np.int32) for name in counts}
    found |= {name: np.empty(rows.num_rows, dtype=np.uint64) for name in ("group", "key")}
    noise, start = 0, 0
    for batch in rows.batches():
        place = slice(start, start := start + batch.num_rows)
        for name in ("prompt", "response"):
            found[name][place] = np.diff(batch.column(f"{name}_ids").combine_chunks().offsets.to_numpy())
            found[f"{name}_cut"][place] = batch.column(f"{name}_cut").to_numpy()
        noise += int(batch.column("noise").to_numpy().sum())
        found["group"][place] = keys_of(batch, folder)
        found["key"][place] = found["group"][place] ^ text_hashes(batch.column("response").to_pylist())
    return found, noise


def _chats(examples: Path, split: str) -> dict[str, Any]:
    """What chat template and tokenizer did: counts of rows, and why the template rejected the first of those that it rejects."""
    counts = chat_counts(examples, split)
    return {
        "turns_cut": counts.turns_cut, "system_cut": counts.system_cut, "apart": counts.apart, "typed": counts.typed,
        "altered": counts.altered, "altered_prompts": counts.altered_prompts,
        "foreign": counts.foreign, "foreign_names": list(counts.foreign_names),
        **{kind: getattr(counts, kind) for kind in LOST},
        "rejected": len(counts.rejected), "why": counts.rejected[0]["why"] if counts.rejected else None,
    }  # fmt: skip


def _conflicts(data: Path, split: str) -> int:
    """The number of texts, a prompt with a response, that the raw rows hold with different stored rewards."""
    keys, stored = [], []
    for batch in open_data(data, split, ["group", "response", "stored"]).batches():
        rated = batch.filter(batch.column("stored").is_valid())
        keys.append(keys_of(rated, data) ^ text_hashes(rated.column("response").to_pylist()))
        stored.append(rated.column("stored").to_numpy())
    texts, ratings, found = np.concatenate(keys), np.concatenate(stored), 0
    for (rows,) in parts(texts):
        order = rows[np.lexsort((ratings[rows], texts[rows]))]
        lowest = np.flatnonzero(np.append(True, texts[order[1:]] != texts[order[:-1]])[: len(order)])  # of each text
        highest = np.append(lowest[1:], len(order))[: len(lowest)] - 1
        found += int((ratings[order[lowest]] < ratings[order[highest]]).sum())
    return found


def _pairs(examples: Path, rewards: Path | None) -> Pairs:
    """The pairs of responses that differ in the reward, or in the stored one if ``rewards`` is None."""
    groups, texts = prompt_codes(examples), column_hashes(examples, "response_ids")
    if rewards is not None:
        return count_pairs(groups, load_rewards(rewards).astype(np.float32), texts)
    stored = read_numbers(examples, "stored")
    is_rated = ~np.isnan(stored)
    return count_pairs(groups[is_rated], stored[is_rated].astype(np.float32), texts[is_rated])


def _cuts(cut: IntArray) -> dict[str, Any]:
    """Number of truncated texts, and the mean and maximum of the tokens removed from them."""
    lost = cut[cut > 0]
    return {"count": len(lost), "mean": float(lost.mean()) if len(lost) else 0.0, "max": int(cut.max())}


def percentiles(values: FloatArray | IntArray) -> dict[str, float]:
    """The PERCENTILES of values by their percent; "0" is the minimum and "100" the maximum."""
    return {str(p): float(value) for p, value in zip(PERCENTILES, np.percentile(values, PERCENTILES), strict=True)}


def _rewards(examples: Path, rewards: Path | None, scored_by: ScoredBy) -> dict[str, Any]:
    """Distribution of the reward, and of each component if there are several; of the stored rewards if ``rewards`` is None."""
    if rewards is None:
        stored = read_numbers(examples, "stored")
        stored = stored[~np.isnan(stored)]
        return {"stored": _distribution(stored)} if len(stored) else {}
    names = scored_by.components()
    components = load_components(rewards, names) if len(names) > 1 else {}
    return {name: _distribution(of) for name, of in ({scored_by.reward.label: load_rewards(rewards)} | components).items()}


def _distribution(values: FloatArray) -> dict[str, Any]:
    counts, edges = np.histogram(values, BINS)
    return {
        "count": len(values), "mean": float(values.mean()), "percentiles": percentiles(values),
        "histogram": {"from": float(edges[0]), "to": float(edges[-1]), "counts": counts.tolist()},
    }  # fmt: skip


def _shown(data: Path, examples: Path, task: Task, tokenizer: PreTrainedTokenizerBase) -> list[dict[str, Any]]:
    """Examples as the model sees them: the first one, and the first of each of KINDS; the next rows make up to SHOWN."""
    kinds = read_blocks(examples, list(KINDS))
    first = [np.flatnonzero(kinds.column(name).to_numpy(zero_copy_only=False))[:1] for name in KINDS]
    special = list(dict.fromkeys([0, *map(int, np.concatenate(first))]))
    rows = list(dict.fromkeys([*special, *range(min(SHOWN, kinds.num_rows))]))[: max(SHOWN, len(special))]
    columns = ["id", "prompt_ids", "response_ids", "prompt_cut", "response_cut", "turns", "turns_cut", "apart", "stored", "noise"]
    table = open_blocks(examples, columns)
    chosen = [table.slice(row, 1).to_pylist()[0] for row in rows]
    whole = _raw(data, [row["id"] for row in chosen])
    encoder = Encoder(tokenizer, UNCUT, UNCUT, task.chat)
    writer = TokenText(tokenizer)
    found = []
    for row in chosen:
        uncut = encoder.prompts([whole[row["id"]]["parts"]])[0]
        assert not isinstance(uncut, BadRow)  # rejected rows are no examples
        cut = cut_mark(row["response_cut"]) if row["response_cut"] else ""
        about = {name: row[name] for name in ("id", "stored", "noise", "apart")}
        about["turns_cut"] = [f"{turn + 1} ({row['turns'][turn]['role']})" for turn in row["turns_cut"]]
        texts = {"prompt": marked(row["prompt_ids"], uncut.ids, writer), "response": writer.text(row["response_ids"]) + cut}
        found.append(about | texts)
    return found


def _raw(data: Path, ids: list[str]) -> dict[str, dict[str, Any]]:
    """Raw rows of the train split by response id."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found: dict[str, dict[str, Any]] = {}
    for batch in open_data(data, "train", ["id", "parts"]).batches():
        found |= {row["id"]: row for row in batch.filter(pc.is_in(batch.column("id"), pa.array(ids))).to_pylist()}
        if len(found) == len(ids):
            break
    return found
