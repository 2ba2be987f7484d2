"""A server with an OpenAI-compatible API: completions of prompts, asked for again within bounds where no reply comes."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, Queue
from typing import Any
from urllib.parse import urlsplit

import httpx

from aloll_cli.errors import UserError

KEY = "ALOLL_SERVER_KEY"  # environment variable with the key of a server that wants one
TIMEOUT = 300.0  # seconds for a reply, which comes whole
TRIES = 5
LONGEST_WAIT = 60.0  # seconds between two tries, whatever the server asks for
PASSING = {408, 409, 425, 429, 500, 502, 503, 504}  # statuses behind which a reply may still come
LOCAL = {"localhost", "127.0.0.1", "::1"}  # never behind a proxy


class Refusal(Exception):  # noqa: N818  becomes a UserError where nothing else can be asked for
    """A server's reply that it will not do what it was asked for, with its reason."""


@dataclass(frozen=True)
class Completion:
    """What a server generated.

    Attributes:
        text: without control tokens.
        ids: its tokens; None where the server does not tell them.
        logps: their log-probs; None where the server does not tell them.
        ended: whether it is complete, rather than cut at the limit.
        prompt_tokens: as the server counted them.
        tokens: of the response, as the server counted them.
    """

    text: str
    ids: list[int] | None
    logps: list[float] | None
    ended: bool
    prompt_tokens: int | None
    tokens: int | None

    @classmethod
    def of(cls, reply: Any) -> Completion:
        """The completion in a reply. Raises ValueError for one of another form."""
        try:
            choice, usage = reply["choices"][0], reply.get("usage") or {}
            logps = (choice.get("logprobs") or {}).get("token_logprobs")
            ids, ended = choice.get("token_ids"), choice["finish_reason"] == "stop"
            found = cls(choice["text"], ids, logps, ended, usage.get("prompt_tokens"), usage.get("completion_tokens"))
        except (LookupError, TypeError, AttributeError):
            raise ValueError("no completion") from None
        counts, numbers = (found.prompt_tokens, found.tokens), (*(ids or []), *(logps or []))
        if not isinstance(found.text, str) or not all(isinstance(n, (int, float)) for n in numbers):
            raise ValueError("no completion")
        if not all(count is None or isinstance(count, int) for count in counts):
            raise ValueError("no counts of tokens")
        return found


class Server:
    """A server at an address. Its methods may be called from several threads."""

    def __init__(self, url: str, connections: int) -> None:
        """``url``: with or without ``/v1``; ``connections``: requests at a time."""
        bare = url.rstrip("/")
        self.url = bare if bare.endswith("/v1") else f"{bare}/v1"
        key = os.environ.get(KEY)
        self._client = httpx.Client(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(TIMEOUT, connect=10.0),
            limits=httpx.Limits(max_connections=connections),
            trust_env=urlsplit(bare).hostname not in LOCAL,
        )
        self._connections = connections
        self._given_up = threading.Event()

    def names(self) -> list[str]:
        """The names of the models that it says it serves; none where it does not say.

        Raises:
            UserError: nothing replies at the address.
        """
        try:
            reply = self._client.get(f"{self.url}/models", timeout=30.0)
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise UserError(
                f"generation.server: no server replies at {self.url} ({_reason(error)}).", "Start it, or correct the address."
            ) from None
        with suppress(ValueError, LookupError, TypeError):
            return [str(model["id"]) for model in reply.json()["data"]]
        return []

    def complete(self, body: dict[str, Any], tries: int = TRIES) -> Completion:
        """The completion that a request asks for.

        Args:
            body: of the request.
            tries: how often it is asked for at most, with waits of 1, 2, 4, … seconds, or as long as the server says.

        Raises:
            Refusal: the server refuses the request.
            UserError: no try had a reply.
        """
        last = ""
        for number in range(tries):
            wait = 2.0**number
            try:
                reply = self._client.post(f"{self.url}/completions", json=body)
                if reply.status_code < 400:
                    return Completion.of(reply.json())
                last = f"status {reply.status_code}: {_said(reply)}"
                if reply.status_code not in PASSING:
                    raise Refusal(last)
                with suppress(ValueError):
                    wait = float(reply.headers.get("Retry-After", wait))
            except httpx.TransportError as error:
                last = _reason(error)
            except ValueError:
                last = "a reply that is no completion"
            if number + 1 < tries and self._given_up.wait(min(wait, LONGEST_WAIT)):
                break
        raise UserError(
            f"{self.url} gave no completion in {tries} tries; the last had {last}.",
            "Look at the server's log, and run the same command again: what is finished is kept.",
        )

    def each(self, bodies: list[dict[str, Any]]) -> Iterator[tuple[int, Completion]]:
        """The completions of several requests as they come, with the place of each request.

        Raises:
            Refusal, UserError: as ``complete``, of the first request that fails.
        """
        left: Queue[int] = Queue()
        done: Queue[tuple[int, Completion | BaseException]] = Queue()
        for place in range(len(bodies)):
            left.put(place)

        def work() -> None:
            with suppress(Empty):
                while not self._given_up.is_set():
                    place = left.get_nowait()
                    try:
                        done.put((place, self.complete(bodies[place])))
                    except BaseException as error:  # raised again in the thread that waits for it
                        done.put((place, error))

        # daemons, so that a second Ctrl-C does not wait for their replies
        for _ in range(min(self._connections, len(bodies))):
            threading.Thread(target=work, daemon=True).start()
        try:
            for _ in bodies:
                place, found = done.get()
                if isinstance(found, BaseException):
                    raise found
                yield place, found
        except BaseException:
            self._given_up.set()
            raise


def _reason(error: Exception) -> str:
    return "no reply in time" if isinstance(error, httpx.TimeoutException) else str(error).rstrip(".") or type(error).__name__


def _said(reply: httpx.Response) -> str:
    """The message of a reply with an error, in one line."""
    try:
        found = reply.json()
        message = found.get("detail") or found.get("message") or found.get("error") or found
        text = message.get("message", str(message)) if isinstance(message, dict) else str(message)
    except (ValueError, AttributeError):
        text = reply.text
    return " ".join(str(text).split())[:300] or reply.reason_phrase
