"""A chat model behind an OpenAI-compatible server as the judge; it is asked about each pair in both orders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from aloll_cli.judging.base import Bench, Judge, Judged
from aloll_cli.judging.ledger import Ledger
from aloll_cli.judging.pairs import Ballot, Pair, digest, distinct
from aloll_cli.judging.rubric import Rubric, read_labels
from aloll_cli.runtime.asking import Unanswered, ask_all, gave_up, patiently
from aloll_cli.runtime.chat_server import Chat, ChatServer, Reply

Asked = dict[str, tuple[Pair, bool, str]]  # by key: the pair, whether its sides are swapped, the request's text
COUNTS = ("prompt_tokens", "completion_tokens")


@dataclass(kw_only=True)
class Llm(Judge, ChatServer):
    """A chat model behind an OpenAI-compatible server, asked about each pair in both orders."""

    def __post_init__(self) -> None:
        self.check_server("judge")

    @property
    def label(self) -> str:
        return Path(self.model).name.lower() or "llm"

    def key_of(self, text: str) -> str:
        """The key of a request: of everything that its reply depends on."""
        return digest([text, self.parameters, self.revision])

    def judge(self, pairs: Sequence[Pair], rubric: Rubric, bench: Bench) -> Judged:
        requests = {
            self.key_of(text): (pair, swapped, text)
            for pair in distinct(pairs)
            for swapped in (False, True)
            for text in [rubric.request(pair.prompt, *pair.shown(swapped))]
        }
        ledger = Ledger(bench.folder / f"{digest([self.parameters, self.revision])[:12]}.jsonl")
        try:
            replies = self._asked(requests, ledger, bench)
        finally:
            ledger.close()
        ballots = []
        for key, (pair, swapped, _) in requests.items():
            reply = replies[key]
            labels, why = (None, reply.why) if reply.why else read_labels(reply.text, self.questions(rubric))
            ballots.append(Ballot(pair.key, self.label, swapped, labels, why, reply.text))
        told = {name: [getattr(reply, name) for reply in replies.values()] for name in COUNTS}
        tokens = {name: sum(count for count in counts if count is not None) for name, counts in told.items()}
        unknown = sum(None in counts for counts in zip(*told.values(), strict=True))
        return Judged(ballots, {"requests": len(replies), **tokens, "without_usage": unknown})

    def _asked(self, requests: Asked, ledger: Ledger, bench: Bench) -> dict[str, Reply]:
        """The replies by key: kept ones, and those to what was not asked before."""
        replies = ledger.replies(requests)
        left = [key for key in requests if key not in replies]
        if replies:
            bench.log.say(f"  {len(replies):,} of {len(requests):,} replies are there already and are not asked for again")
        if not left:
            return replies
        chat = Chat(self)

        def ask(key: str, closing: Event) -> Reply:
            try:
                return patiently(lambda: chat.ask(requests[key][2]), self.tries, closing)
            except Unanswered as failure:
                if failure.of_request and replies:  # others were answered: this one is too long, or forbidden
                    return Reply("", f"refused: {failure.what}")
                kept = f"{len(replies):,} of {len(requests):,} replies are kept; the same command asks for the others."
                raise gave_up(f"judge.url={self.url}", failure, self.tries, kept) from None

        with bench.log.progress(f"ask {self.label}", len(requests), len(replies)) as meter:
            for key, reply in ask_all(left, ask, self.concurrency, lambda: bench.stopper.requested):
                if not reply.why.startswith("refused"):  # that may be mended at the server
                    ledger.add(key, reply)
                replies[key] = reply
                meter.advance()
        if len(replies) < len(requests):
            bench.stopper.check()
        return replies
