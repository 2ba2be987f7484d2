"""The hub's endpoint on this machine: what huggingface_hub asks of it to check a card and to upload a folder."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

TOKEN = "hf_of_a_test"


@dataclass
class Hub:
    """A hub with one user, and what was asked of it.

    Attributes:
        url: its address.
        asked: method and path of each request, in order.
        repositories: visibility by name.
        stored: contents of large files by SHA-256.
        commits: by repository, the contents of files by path of each commit.
        breaks: how many uploads of large files fail from now on.
        refuses: what it says of any card; empty: nothing.
    """

    url: str = ""
    asked: list[str] = field(default_factory=list)
    repositories: dict[str, str] = field(default_factory=dict)
    stored: dict[str, bytes] = field(default_factory=dict)
    commits: list[tuple[str, dict[str, bytes]]] = field(default_factory=list)
    breaks: int = 0
    refuses: str = ""

    def count(self, pattern: str) -> int:
        """Requests that match a pattern."""
        return sum(re.search(pattern, one) is not None for one in self.asked)

    def answer(self, method: str, path: str, body: bytes, token: str) -> tuple[int, Any]:
        """Status and JSON (or text) for a request."""
        path = path.partition("?")[0]
        self.asked.append(f"{method} {path}")
        if path == "/api/validate-yaml":
            return (400, self.refuses) if self.refuses else (200, {"errors": [], "warnings": []})
        if path.startswith("/store/"):
            return self._store(path.rpartition("/")[2], body)
        if token != f"Bearer {TOKEN}":
            return 401, {"error": "Invalid username or password."}
        if path == "/api/whoami-v2":
            return 200, {"type": "user", "name": "tester", "auth": {"accessToken": {"role": "write"}}}
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if found := re.fullmatch(r"/api/models/(\w+/[\w-]+)/preupload/main", path):
            files = [
                {
                    "path": file["path"],
                    "shouldIgnore": False,
                    "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                    "oid": self._oid(found[1], file["path"]),
                }
                for file in json.loads(body)["files"]
            ]
            return 200, {"files": files}
        if path.endswith("/info/lfs/objects/batch"):
            return 200, {"transfer": "basic", "objects": [self._batch(one) for one in json.loads(body)["objects"]]}
        if found := re.fullmatch(r"/api/models/(\w+/[\w-]+)/commit/main", path):
            return self._commit(found[1], body)
        if path.removeprefix("/api/models/").removesuffix("/revision/main") in self.repositories:
            return 200, {"id": path.removeprefix("/api/models/"), "sha": "0" * 40, "siblings": [], "tags": [], "downloads": 0}
        return 404, {"error": f"no {path}"}

    def _create(self, asked: dict[str, Any]) -> tuple[int, Any]:
        name = f"{asked['organization']}/{asked['name']}"
        if asked["organization"] != "tester":
            return 403, {"error": f"You don't have the rights to create a model under the namespace {asked['organization']!r}"}
        if name in self.repositories:
            return 409, {"error": "You already created this model repo", "url": f"{self.url}/{name}"}
        self.repositories[name] = asked.get("visibility", "public")
        return 200, {"url": f"{self.url}/{name}", "name": name, "id": "1"}

    def _store(self, sha256: str, body: bytes) -> tuple[int, Any]:
        if self.breaks:
            self.breaks -= 1
            return 400, {"error": "broken off"}
        assert hashlib.sha256(body).hexdigest() == sha256
        self.stored[sha256] = body
        return 200, {}

    def _batch(self, one: dict[str, Any]) -> dict[str, Any]:
        if one["oid"] in self.stored:
            return one
        return one | {"actions": {"upload": {"href": f"{self.url}/store/{one['oid']}"}}}

    def _oid(self, name: str, path: str) -> str | None:
        """The git hash of a small file of the last commit, the SHA-256 of a large one."""
        content = next((files[path] for of, files in reversed(self.commits) if of == name and path in files), None)
        if content is None:
            return None
        if path.endswith(".safetensors"):
            return hashlib.sha256(content).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()

    def _commit(self, name: str, body: bytes) -> tuple[int, Any]:
        from base64 import b64decode

        files = {}
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.stored[value["oid"]]
        self.commits.append((name, files))
        url = f"{self.url}/{name}/commit/{'1' * 40}"
        return 200, {"success": True, "commitOid": "1" * 40, "commitUrl": url, "hookOutput": ""}


@contextmanager
def hub() -> Iterator[Hub]:
    """A hub that listens on this machine alone."""
    found = Hub()

    class Handler(BaseHTTPRequestHandler):
        def _do(self) -> None:
            length = self.headers.get("Content-Length")
            if length is not None:
                body = self.rfile.read(int(length))
            else:  # in chunks
                body = b""
                while "chunked" in self.headers.get("Transfer-Encoding", "") and (size := int(self.rfile.readline(), 16)):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                if "chunked" in self.headers.get("Transfer-Encoding", ""):
                    self.rfile.readline()
            status, said = found.answer(self.command, self.path, body, self.headers.get("Authorization", ""))
            content = said.encode() if isinstance(said, str) else json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain" if isinstance(said, str) else "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = _do  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
