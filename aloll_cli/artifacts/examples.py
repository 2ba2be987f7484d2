"""The tokenized examples: the selected prompts and responses of each split, truncated to the token limits."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from aloll_cli.artifacts.as_seen import form_hashes, shared_prompts, shared_told
from aloll_cli.artifacts.chat_counts import ALTERED, LOST, chat_counts, note
from aloll_cli.artifacts.data import Data
from aloll_cli.artifacts.raw_table import open_data
from aloll_cli.artifacts.selected_responses import SelectedResponses
from aloll_cli.artifacts.tokenizer import Tokenizer
from aloll_cli.errors import UserError
from aloll_cli.schema import identity
from aloll_cli.store.store import Artifact, Job
from aloll_cli.store.tables import read_blocks, write_blocks
from aloll_cli.tasks.base import SPLITS, BadRow, Task, plain_prompt
from aloll_cli.tasks.options import Chat, OnBadRow, Truncated

if TYPE_CHECKING:
    import pyarrow as pa
    from transformers import PreTrainedTokenizerBase

    from aloll_cli.text.encoded import Prompt
    from aloll_cli.text.encoding import Encoder
    from aloll_cli.text.spelling import Spelling


ENCODED = 4096  # rows per block: encoding is fast, and a million rows should be only a few hundred files


class Examples(Artifact):
    """One row per response: id, group, prompt (untruncated), turns, prompt_ids, prompt_cut, response (truncated), response_ids

    Of chats also: turns_cut, the places of turns that were cut off whole, and system_cut, whether the system turn was; opening
    and closing, what the template writes around the response; apart, whether the response is tokenized apart from the prompt.
    Of all: typed, whether the name of a control token stands in it; foreign, the names of other models' control tokens in it.
    """

    kind, stage = "examples", "score-rewards"
    of_several_policies: ClassVar[bool] = False  # whether policies' own responses are among the training responses
    version = 6  # text becomes no token that the template writes around turns; an opened tag is not repeated; column foreign
    resumes = False

    def __init__(self, task: Task, data: Data, tokenizer: Tokenizer) -> None:
        self.task, self.data, self.tokenizer = task, data, tokenizer
        self.name = f"{task.responses.name}-{task.max_prompt_tokens}-{task.max_response_tokens}"

    def identity(self) -> dict[str, Any]:
        # tokenizers from scratch write every text: there is nothing to count, and what was encoded before is still the same
        pretrained = {"lost_text": "counted", "altered": "prompts, too", "control tokens": "not of Unigram's text"}
        return {"task": identity(self.task)} | ({} if self.tokenizer.model.from_scratch else pretrained)

    def inputs(self) -> dict[str, Artifact]:
        return {"data": self.data, "tokenizer": self.tokenizer}

    def make(self, job: Job) -> None:
        from aloll_cli.text.encoding import Encoder
        from aloll_cli.text.spelling import Spelling

        tokenizer = self.tokenizer.load(job)
        encoder = Encoder(tokenizer, self.task.max_prompt_tokens, self.task.max_response_tokens, self.task.chat)
        spelling = Spelling(tokenizer)
        for split in SPLITS:
            raw = SelectedResponses(job.path(self.data), split, self.task, job)

            def encode(start: int, stop: int, raw: SelectedResponses = raw, split: str = split) -> pa.Table:
                rows = raw.slice(start, stop)
                table, rejected, altered = encoded(rows, encoder, self.task.truncated)
                self._leave_out(job, split, start, rejected)
                for kind, names in (altered | lost_text(rows, table, spelling)).items():
                    note(job.directory, kind, split, start, [{"id": name} for name in names])
                return table

            write_blocks(job, split, len(raw), f"tokenize {split}", encode, block=ENCODED)
            _log_counts(job, split, len(raw))
        self._log_chat_format(job)
        if job.world.is_main:
            self._warn_of_shared_prompts(job)

    def _leave_out(self, job: Job, split: str, start: int, rejected: dict[str, BadRow]) -> None:
        """Keep the reasons of rows that the chat template rejects. Raises UserError unless bad rows are skipped."""
        if rejected and self.task.on_bad_row is OnBadRow.error:
            name, reason = next(iter(rejected.items()))
            raise UserError(f"{self.data.place(name)}: {reason}.", reason.hint)
        rows = [{"id": name, "why": str(reason)} for name, reason in rejected.items()]
        note(job.directory, "rejected", split, start, rows)

    def _log_chat_format(self, job: Job) -> None:
        import pyarrow.compute as pc

        parts = (batch.column("parts") for batch in open_data(job.path(self.data), "train", ["parts"]).batches())
        is_chat = any(role.null_count < len(role) for role in (pc.struct_field(pc.list_flatten(p), "role") for p in parts))
        templated = pc.any(read_blocks(job.directory / "train", ["templated"]).column("templated")).as_py()
        if templated and self.task.stop:
            job.log.say(
                f"  chats use the model's chat template; responses also end before {self.task.stop} (task.stop=[] turns this off)"
            )
        elif templated:
            job.log.say("  chats use the model's chat template")
        elif is_chat:
            why = "task.chat=plain" if self.task.chat is Chat.plain else "the tokenizer has no chat template"
            job.log.say(f"  chats are plain text ({why})")

    def _warn_of_shared_prompts(self, job: Job) -> None:
        """Splits share no prompt, but some may differ in form only, and where prompts are cut the model may see the same one."""
        if told := shared_told(shared_prompts(job.directory, form_hashes)):
            job.log.warn(
                f"prompts that two splits share but for white space and Unicode form: {told}; results on them may be memorized: "
                "write them alike, or drop them from one of the splits"
            )
        shared = shared_prompts(job.directory)
        if told := shared_told(shared):
            job.log.warn(
                f"prompts that the model sees alike in two splits, as they differ only in what is cut off at "
                f"task.max_prompt_tokens={self.task.max_prompt_tokens}, or in what the chat template leaves out: {told}"
            )


def unused_template(examples: Path, tokenizer: PreTrainedTokenizerBase, chat: Chat) -> str | None:
    """What to tell a user where training prompts have no turns and therefore go past the model's chat template; else None.

    Args:
        examples: folder of the encoded examples.
        tokenizer: the tokenizer that they were encoded with.
        chat: the choice; None is told where it names the format of plain prompts.
    """
    import pyarrow.compute as pc

    if tokenizer.chat_template is None or chat in (Chat.plain, Chat.wrap):
        return None
    templated = read_blocks(examples / "train", ["templated"]).column("templated")
    without = len(templated) - (pc.sum(templated).as_py() or 0)
    if not without:
        return None
    what = "the prompts" if without == len(templated) else f"{without:,} of {len(templated):,} training prompts"
    return f"the model's chat template is not used for {what}, which have no turns: task.chat=wrap makes each a turn of the user"


def encoded(raw: pa.Table, encoder: Encoder, truncated: Truncated) -> tuple[pa.Table, dict[str, BadRow], dict[str, list[str]]]:
    """Raw responses → examples, by their id why the chat template rejects others, and by ALTERED the ids of those it alters."""
    import numpy as np
    import pyarrow as pa

    rows = raw.to_pylist()
    found = encoder.prompts([row["parts"] for row in rows])
    both = list(zip(found, encoder.responses([row["response"] for row in rows], found), strict=True))
    rejected = {row["id"]: response for row, (_, response) in zip(rows, both, strict=True) if isinstance(response, BadRow)}
    if rejected:
        raw = raw.filter(pa.array([row["id"] not in rejected for row in rows]))
        rows = [row for row in rows if row["id"] not in rejected]
    prompts = [prompt for prompt, response in both if not isinstance(response, BadRow) and not isinstance(prompt, BadRow)]
    responses = [response for _, response in both if not isinstance(response, BadRow)]
    of_responses = [row["id"] for row, response in zip(rows, responses, strict=True) if response.altered]
    of_prompts = [row["id"] for row, prompt in zip(rows, prompts, strict=True) if prompt.altered]
    kept = np.array([truncated is Truncated.keep or not response.truncated for response in responses], dtype=bool)
    table = pa.table({
        "id": raw.column("id"),
        "group": raw.column("group"),
        "prompt": pa.array([plain_prompt(row["parts"]) for row in rows], pa.string()),
        "turns": _turns(raw.column("parts").combine_chunks()),
        "prompt_ids": _lists([prompt.ids for prompt in prompts]),
        "prompt_cut": pa.array([prompt.cut for prompt in prompts], pa.int64()),
        "response": pa.array([response.text for response in responses], pa.string()),
        "response_ids": _lists([response.ids for response in responses]),
        "response_cut": pa.array([response.cut for response in responses], pa.int64()),
        "truncated": pa.array([response.truncated for response in responses], pa.bool_()),
        "templated": pa.array([prompt.templated for prompt in prompts], pa.bool_()),
        "turns_cut": _lists([list(prompt.dropped) for prompt in prompts]),
        "system_cut": pa.array([_lost_system(p, row["parts"]) for p, row in zip(prompts, rows, strict=True)], pa.bool_()),
        "opening": pa.array([prompt.around.opening for prompt in prompts], pa.string()),
        "closing": pa.array([prompt.around.closing for prompt in prompts], pa.string()),
        "apart": pa.array([response.apart for response in responses], pa.bool_()),
        "typed": pa.array([p.typed or r.typed for p, r in zip(prompts, responses, strict=True)], pa.bool_()),
        "foreign": pa.array([encoder.foreign.of(_texts(row)) for row in rows], pa.list_(pa.string())),
        "stored": raw.column("stored"),
        "noise": raw.column("noise"),
    })  # fmt: skip
    return (table if kept.all() else table.filter(kept)), rejected, dict(zip(ALTERED, (of_responses, of_prompts), strict=True))


def lost_text(raw: pa.Table, examples: pa.Table, spelling: Spelling) -> dict[str, list[str]]:
    """The ids of examples whose tokens do not say their text, by kind: LOST of chat_counts.py.

    Args:
        raw: the raw responses.
        examples: those of them that were encoded and kept, in the same order.
        spelling: of the tokenizer.
    """
    names = examples.column("id").to_pylist()
    kept = set(names)
    rows = [row for row in raw.select(["id", "parts", "response"]).to_pylist() if row["id"] in kept]
    said = {
        "prompts": [[part["text"] for part in row["parts"]] for row in rows],
        "responses": [[row["response"]] for row in rows],
    }
    found: dict[str, list[str]] = {kind: [] for kind in LOST}
    for side, texts in said.items():
        ids = examples.column(f"{side.removesuffix('s')}_ids").to_pylist()
        for name, loss in zip(names, spelling.losses(texts, ids), strict=True):
            if loss:
                found[f"{loss.name}_{side}"].append(name)
    return found


def _texts(row: dict[str, Any]) -> list[str]:
    """What a raw row says: the texts of its prompt's parts, and its response."""
    return [*(part["text"] for part in row["parts"]), row["response"]]


def _lost_system(prompt: Prompt, parts: list[dict[str, Any]]) -> bool:
    return any(parts[turn]["role"] == "system" for turn in prompt.dropped)


def _turns(parts: pa.ListArray) -> pa.ListArray:
    """The chat turns of each prompt's parts: tasks.base.turns for whole columns."""
    import pyarrow as pa
    import pyarrow.compute as pc

    role, text = (pc.struct_field(parts.flatten(), name) for name in ("role", "text"))
    shown = pa.StructArray.from_arrays([pc.fill_null(role, "user"), text], ["role", "content"])
    return pa.ListArray.from_arrays(_offsets(parts.value_lengths()), shown)


def _lists(rows: list[list[int]]) -> pa.ListArray:
    import numpy as np
    import pyarrow as pa

    offsets = _offsets([len(row) for row in rows])
    return pa.ListArray.from_arrays(offsets, np.fromiter(chain.from_iterable(rows), np.int64, offsets[-1]))


def _offsets(lengths: Any) -> Any:
    """(N + 1,) where each of N lists begins, and where the last one ends."""
    import numpy as np

    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)], dtype=np.int32)


def _log_counts(job: Job, split: str, read: int) -> None:
    import pyarrow.compute as pc

    table = read_blocks(job.directory / split, ["prompt_cut", "truncated"])
    if not table.num_rows:
        rejected = chat_counts(job.directory, split).rejected
        if rejected:
            raise UserError(
                f"the {split} split has no examples left: {rejected[0]['why']}.", "Set task.chat=plain, or choose another model."
            )
        raise UserError(
            f"the {split} split has no examples left after selection and truncation.", "task.truncated=keep, or another task.path"
        )
    cut = pc.sum(pc.greater(table.column("prompt_cut"), 0)).as_py()
    truncated = pc.sum(table.column("truncated")).as_py()
    counts = chat_counts(job.directory, split)
    turns = f" ({counts.turns_cut:,} lost whole turns)" if counts.turns_cut else ""
    refused = f"; rejected by the chat template: {len(counts.rejected):,}" if counts.rejected else ""
    too_long = read - table.num_rows - len(counts.rejected)
    dropped = f"; dropped as too long: {too_long:,} responses" if too_long else ""
    responses = f"{table.num_rows:,} responses; truncated: {cut:,} prompts{turns}, {truncated:,} responses"
    job.log.say(f"  {split}: {responses}{dropped}{refused}")
    for line in counts.warnings(split):
        job.log.warn(line)
