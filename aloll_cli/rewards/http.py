"""A server of your own as a reward: rows are sent to it as JSON, and one number for each comes back.

``aloll run reward=http reward.url=http://localhost:9000/score reward.revision=1``

A request is ``{"rows": [{"id": …, "prompt": …, "response": …, "turns": […], "stored": …}, …]}``, the reply
``{"scores": [0.3, …]}`` or the list alone: one finite number per row, in the order of the rows.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from aloll_cli.errors import UserError
from aloll_cli.rewards.base import Reward, Row, Scorer
from aloll_cli.rewards.repeated import difference
from aloll_cli.runtime.asking import Unanswered, ask_all, gave_up, patiently
from aloll_cli.runtime.chat_server import AGAIN, CONCURRENCY, SHOWN, TIMEOUT, TRIES, check_key, check_url, secret, without
from aloll_cli.schema import COUNT, OPERATIONAL, numbers
from aloll_cli.tasks.base import shown

if TYPE_CHECKING:
    from aloll_cli.arrays import FloatArray

FIELDS = ("id", "prompt", "response", "turns", "stored")
LARGEST = 64_000_000  # bytes of a reply
KEPT = "Blocks scored so far are kept: the same command resumes there."


@dataclass(kw_only=True)
class Http(Reward):
    """The scores of a server of your own. The recipe holds its URL and the version that you name, not what runs there."""

    url: str
    revision: str
    key: str | None = field(metadata=OPERATIONAL)
    lo: float = field(metadata=numbers("[-inf, inf]", 0.0))  # range of its scores; -.inf and .inf if unbounded
    hi: float = field(metadata=numbers("[-inf, inf]", 1.0))
    rows: int = field(metadata=OPERATIONAL | COUNT)  # per request, at most
    concurrency: int = field(metadata=OPERATIONAL | CONCURRENCY)
    tries: int = field(metadata=OPERATIONAL | TRIES)
    timeout: float = field(metadata=OPERATIONAL | TIMEOUT)

    def __post_init__(self) -> None:
        check_url("reward.url", self.url)
        check_key("reward.key", self.key)
        if not self.lo < self.hi:
            raise UserError(f"reward.lo={self.lo} must be less than reward.hi={self.hi}.", "reward.lo=0 reward.hi=1")

    @property
    def range(self) -> tuple[float, float]:
        return self.lo, self.hi

    @property
    def downloads(self) -> bool:
        return True

    def scorer(self, state: Path | None) -> Scorer:
        return _HttpScorer(self)


class _HttpScorer(Scorer):
    def __init__(self, reward: Http) -> None:
        self._reward, self._key = reward, secret(reward.key)

    def score(self, rows: Sequence[Row]) -> FloatArray:
        import numpy as np

        reward, step = self._reward, self._reward.rows
        parts = {start: rows[start : start + step] for start in range(0, len(rows), step)}

        def ask(start: int, closing: Event) -> list[float]:
            try:
                return patiently(lambda: self._request(parts[start]), reward.tries, closing)
            except Unanswered as failure:
                raise gave_up(f"reward.url={reward.url}", failure, reward.tries, KEPT) from None

        scores = np.empty(len(rows))
        for start, found in ask_all(list(parts), ask, reward.concurrency):
            scores[start : start + step] = found
        return scores

    def doubt(self, rows: Sequence[Row], scores: FloatArray) -> str | None:
        found = difference(self.score, rows, scores)  # only a warning: a server may sample
        return found and f"reward.url={self._reward.url} does not give a row the same score again: {found.told}"

    def _request(self, rows: Sequence[Row]) -> list[float]:
        """The scores of a few rows. Raises Unanswered where there are none that can be used."""
        from http.client import HTTPException
        from urllib.error import HTTPError
        from urllib.request import Request, urlopen

        given = [{name: getattr(row, name) for name in FIELDS} for row in rows]
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self._key}"} if self._key else {})
        request = Request(self._reward.url, json.dumps({"rows": given}).encode(), headers, method="POST")
        try:
            with urlopen(request, timeout=self._reward.timeout) as reply:
                content = reply.read(LARGEST + 1)
        except HTTPError as error:
            with error:
                said = without(self._key, error.read(SHOWN * 4).decode("utf-8", "replace"))
            wait = error.headers.get("Retry-After", "")
            told = f"replied with HTTP {error.code}: {' '.join(said.split())[:SHOWN]}"
            again = error.code in AGAIN or error.code >= 500
            raise Unanswered(told, again, float(wait) if wait.isdecimal() else None) from None
        except TimeoutError:
            raise Unanswered(f"gave no reply within {self._reward.timeout:g} seconds") from None
        except (OSError, HTTPException) as error:
            raise Unanswered(f"cannot be reached: {without(self._key, str(error)) or type(error).__name__}") from None
        if len(content) > LARGEST:
            raise Unanswered(f"replied with more than {LARGEST:,} bytes", again=False)
        try:
            value = json.loads(content)
        except (ValueError, RecursionError):
            raise Unanswered(
                f"replied with what is not JSON: {shown(without(self._key, content[:SHOWN].decode('utf-8', 'replace')))}"
            ) from None
        return _scores(value, rows, lambda text: without(self._key, text))


def _scores(value: Any, rows: Sequence[Row], clean: Any) -> list[float]:
    """The scores in a reply: as many finite numbers as rows. Raises Unanswered; asking again would not help."""
    import math

    found = value.get("scores") if isinstance(value, dict) else value
    if not isinstance(found, list):
        raise Unanswered(f'replied with {clean(shown(value))}; expected {{"scores": [number, …]}}', again=False)
    if len(found) != len(rows):
        raise Unanswered(f"replied with {len(found)} scores for {len(rows)} rows from {rows[0].id} on", again=False)
    for row, score in zip(rows, found, strict=True):
        if isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score):
            raise Unanswered(
                f"replied with the score {clean(shown(score))} for row {row.id}; expected a finite number", again=False
            )
    return [float(score) for score in found]
