"""An OpenAI-compatible server of a chat model, which judges or scores: its options, and one request to it.

The key is read from the environment when a request is sent. Options and recipes hold the variable's name alone, and whatever
the server sends back is searched for the key before anybody sees it.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from aloll_cli.errors import UserError
from aloll_cli.runtime.asking import Unanswered
from aloll_cli.schema import COUNT, OPERATIONAL, numbers

VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]{0,63}")
HIDDEN = "[key]"
SHOWN = 200  # characters shown of a server's complaint
AGAIN = (408, 409, 425, 429)  # HTTP status codes that may pass, as those from 500 on
OF_REQUEST = (400, 413, 422)  # those that are about one request, such as one that is too long
TIMEOUT, TRIES, CONCURRENCY = numbers("(0, 86400]", 120.0), numbers("[1, 100]", 6), numbers("[1, 1024]", 8)


@dataclass(frozen=True)
class Reply:
    """What a server replied.

    Attributes:
        text: of the model, without its thoughts; "" where there is none.
        why: what is wrong with it whatever the text says: cut, empty, refused; "" if nothing is.
        prompt_tokens, completion_tokens: as the server counts them; None if it does not say.
    """

    text: str
    why: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


@dataclass(kw_only=True)
class ChatServer:
    """A chat model behind an OpenAI-compatible server."""

    url: str = field(metadata=OPERATIONAL)
    model: str
    revision: str  # what the user calls that which the server runs
    key: str | None = field(metadata=OPERATIONAL)
    temperature: float | None = field(metadata=numbers("[0, inf)", 0.0))
    max_tokens: int | None = field(metadata=COUNT)
    body: dict[str, Any]
    concurrency: int = field(metadata=OPERATIONAL | CONCURRENCY)
    tries: int = field(metadata=OPERATIONAL | TRIES)
    timeout: float = field(metadata=OPERATIONAL | TIMEOUT)

    def check_server(self, group: str) -> None:
        """Raises UserError for a URL or a name of a key that cannot be one; ``group`` is where the options stand."""
        check_url(f"{group}.url", self.url)
        check_key(f"{group}.key", self.key)
        if not self.model:
            raise UserError(f"{group}.model is empty.", f"{group}.model=NAME: as the server calls it")
        if taken := sorted({"model", "messages", "stream", "n"} & self.body.keys()):
            raise UserError(f"{group}.body.{taken[0]} is set by aloll itself.", f"Leave it out of {group}.body.")

    @property
    def parameters(self) -> dict[str, Any]:
        """The fields of a request besides its messages."""
        found = {"model": self.model, "temperature": self.temperature, "max_tokens": self.max_tokens}
        return {name: value for name, value in found.items() if value is not None} | self.body


def check_url(option: str, url: str) -> None:
    """Raises UserError for what is no address of a server, or holds a secret that would be written down."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError(f"{option} is not the address of a server.", f"{option}=http://localhost:8000/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        what = f"{option} holds a user, a password or a query, which would be written into recipes and logs."
        raise UserError(what, f"Put the key into an environment variable, and name that: {option.rpartition('.')[0]}.key=NAME")


def check_key(option: str, name: str | None) -> None:
    """Raises UserError for what is no name of an environment variable; it may be the key itself and is not shown."""
    if name is not None and not VARIABLE.fullmatch(name):
        what = f"{option} is the name of an environment variable that holds the key, in capitals, and not the key itself."
        raise UserError(what, f"export OPENAI_API_KEY=…, then {option}=OPENAI_API_KEY")


def secret(name: str | None) -> str:
    """The key in an environment variable; "" where there is none."""
    return os.environ.get(name, "").strip() if name else ""


def without(key: str, text: str) -> str:
    """A text of a server without the key."""
    return text.replace(key, HIDDEN) if key else text


class Chat:
    """A connection to a server."""

    def __init__(self, server: ChatServer) -> None:
        """Raises UserError where the client is not installed."""
        try:
            import openai
        except ModuleNotFoundError:
            raise UserError("the client of OpenAI-compatible servers is not installed.", "pip install 'aloll[judge]'") from None
        self._server, self._key = server, secret(server.key)
        self._client = openai.OpenAI(
            base_url=server.url, api_key=self._key or "none", timeout=server.timeout, max_retries=0, organization="", project=""
        )
        self._of_status, self._errors = openai.APIStatusError, (openai.OpenAIError, ValueError)
        self._timeout = openai.APITimeoutError

    def ask(self, prompt: str) -> Reply:
        """One request.

        Raises:
            Unanswered: there was no reply, or none that is a chat completion.
        """
        server = self._server
        fields = server.parameters
        model = fields.pop("model")
        messages: Any = [{"role": "user", "content": prompt}]
        try:
            found = self._client.chat.completions.create(model=model, messages=messages, extra_body=fields)
        except self._of_status as error:
            said = " ".join(without(self._key, str(error)).split())[:SHOWN]
            wait = _seconds(error.response.headers.get("retry-after"))
            code = error.status_code
            hint = f" (the key is read from {server.key})" if code in (401, 403) else ""
            again, of_request = code in AGAIN or code >= 500, code in OF_REQUEST
            raise Unanswered(f"replied with HTTP {code}: {said}{hint}", again, wait, of_request) from None
        except self._timeout:
            raise Unanswered(f"gave no reply within {server.timeout:g} seconds") from None
        except self._errors as error:
            raise Unanswered(f"cannot be used: {without(self._key, _causes(error))}") from None
        return self._read(found)

    def _read(self, found: Any) -> Reply:
        try:
            choice = found.choices[0]
            text, finish = choice.message.content, choice.finish_reason
            usage = found.usage
        except (AttributeError, IndexError, TypeError):
            raise Unanswered("replied with something else than a chat completion") from None
        if not isinstance(text, str | None):
            raise Unanswered("replied with something else than a chat completion")
        said = without(self._key, text or "").rpartition("</think>")[2].strip()
        why = "cut at max_tokens" if finish == "length" else "" if said else "empty"
        return Reply(said, why, *(_count(usage, name) for name in ("prompt_tokens", "completion_tokens")))


def _count(usage: Any, name: str) -> int | None:
    value = getattr(usage, name, None)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53 else None


def _seconds(header: str | None) -> float | None:
    """What ``Retry-After: 3`` asks for; None for a date or nothing."""
    try:
        found = float(header or "")
    except ValueError:
        return None
    return found if found >= 0 else None


def _causes(error: BaseException) -> str:
    """An error of the client with what caused it: ``Connection error: [Errno 111] Connection refused``."""
    parts: list[str] = []
    current: BaseException | None = error
    while current is not None and len(parts) < 3:
        text = " ".join(str(current).split()).rstrip(".") or type(current).__name__
        parts += [text] if text not in parts else []
        current = current.__cause__ or current.__context__
    return ": ".join(parts)[:SHOWN]
