"""A scripted OpenAI-compatible server for tests: it replies, lies, stalls, is busy and breaks off as it is told.

    server = Scripted(behaviour)            # behaviour(text of the request, how often it came before) → what it does
    with server: … server.url …
    server.log                              # what came, in order: key of the request, what the server did, whether it was sent

It listens on this machine alone and stops with the block.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any

TEXTS = re.compile(r"^(prompt|response A|response B|response) (\w+)\n(.*?)\nend of \1 \2$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Act:
    """What the server does with one request.

    Attributes:
        kind: say (a chat completion with ``text``), raw (``text`` as the body), status (an HTTP error ``code``), stall (wait
            ``seconds``, then say), half (the first half of a completion as the whole body), or drop (break off within the body).
        text: as ``kind`` says.
        code: of HTTP.
        seconds: before the reply.
        retry_after: header of an HTTP error.
        finish: why the model ended.
    """

    kind: str = "say"
    text: str = ""
    code: int = 429
    seconds: float = 0.0
    retry_after: str = "0"
    finish: str = "stop"


def texts_of(request: str) -> dict[str, str]:
    """The prompt and the responses in a request of a judge."""
    return {found[0]: found[2] for found in TEXTS.findall(request)}


def key_of(request: str) -> str:
    return hashlib.sha256(request.encode()).hexdigest()[:16]


class Scripted:
    """The server. ``log`` holds (key, kind of act, whether the reply was sent whole)."""

    def __init__(self, behaviour: Callable[[str, int], Act], echo_key: bool = False) -> None:
        """
        Args:
            behaviour: what to do with a request; gets its text, and how often it came before.
            echo_key: whether replies repeat the Authorization header, as a careless proxy's do.
        """
        self.log: list[tuple[str, str, bool]] = []
        self.bodies: list[dict[str, Any]] = []
        self._seen: Counter[str] = Counter()
        self._lock = Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["Content-Length"]))
                if len(content) < int(self.headers["Content-Length"]):  # the client was killed
                    self.close_connection = True
                    return
                body = json.loads(content)
                request = body["messages"][0]["content"] if "messages" in body else json.dumps(body)
                with outer._lock:
                    count = outer._seen[request]
                    outer._seen[request] += 1
                    outer.bodies.append(body)
                act = behaviour(request, count)
                echoed = self.headers.get("Authorization", "") if echo_key else ""
                sent = False
                try:
                    self._do(act, echoed)
                    sent = True
                except OSError:
                    self.close_connection = True
                with outer._lock:
                    outer.log.append((key_of(request), act.kind, sent))

            def _do(self, act: Act, echoed: str) -> None:
                if act.seconds:
                    time.sleep(act.seconds)
                if act.kind == "status":
                    self._send(act.code, json.dumps({"error": {"message": f"{act.text} {echoed}".strip()}}), act.retry_after)
                    return
                if act.kind == "raw":
                    self._send(200, act.text)
                    return
                whole = json.dumps(completion(f"{act.text} {echoed}".strip(), act.finish))
                if act.kind == "half":
                    self._send(200, whole[: len(whole) // 2])
                elif act.kind == "drop":
                    self.send_response(200)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(whole)))
                    self.end_headers()
                    self.wfile.write(whole[: len(whole) // 2].encode())
                    self.close_connection = True
                else:
                    self._send(200, whole)

            def _send(self, code: int, text: str, retry_after: str = "") -> None:
                content = text.encode()
                self.send_response(code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                if retry_after:
                    self.send_header("Retry-After", retry_after)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # a client that is gone

        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> Scripted:
        Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def completion(text: str, finish: str = "stop") -> dict[str, Any]:
    """A chat completion as such servers send it: 10 tokens read, 5 written."""
    message = {"role": "assistant", "content": text}
    return {
        "id": "scripted", "object": "chat.completion", "created": 0, "model": "scripted",
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    }  # fmt: skip
