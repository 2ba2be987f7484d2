"""A server of completions for tests: a tiny model behind the API of vLLM, or of transformers serve, with faults on demand."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

NAME = "folder/of/a/policy"
Fault = tuple[int, dict[str, str], bytes] | float  # a raw answer, or seconds of silence


@dataclass
class Model:
    """What the server holds and how it answers.

    Attributes:
        by_ids: prompts are token ids and answers tell theirs (vLLM), or both are text and other fields refused (transformers).
        faults: what the next requests are answered with instead.
        requests: the bodies so far.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    by_ids: bool = True
    faults: list[Fault] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    change: Callable[[dict[str, Any]], None] = lambda answer: None

    def answer(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.requests.append(body)
        if body["model"] != NAME:
            return 404, {"error": {"message": f"The model {body['model']} does not exist."}}
        if not self.by_ids and (not isinstance(body["prompt"], str) or "top_k" in body):
            return 422, {"detail": "Unexpected fields in the request"}
        prompt = body["prompt"] if self.by_ids else self.tokenizer(body["prompt"])["input_ids"]
        ends = body["stop_token_ids"] if self.by_ids else json.loads(body["generation_config"])["eos_token_id"]
        ids, logps = self._generated(prompt, body, ends)
        text = self.tokenizer.decode(ids, skip_special_tokens=True)
        ended = bool(ids and ids[-1] in ends)
        for stop in body.get("stop", []):
            if self.by_ids and stop in text:
                text, ended = text.partition(stop)[0], True
        usage = {"prompt_tokens": len(prompt), "completion_tokens": len(ids)}
        choice = {"text": text, "finish_reason": "stop" if ended else "length"}
        if self.by_ids:
            choice |= {"token_ids": ids, "logprobs": {"token_logprobs": logps} if "logprobs" in body else None}
        found = {"choices": [choice], "usage": usage}
        self.change(found)
        return 200, found

    @torch.inference_mode()
    def _generated(self, prompt: list[int], body: dict[str, Any], ends: list[int]) -> tuple[list[int], list[float]]:
        random = torch.Generator().manual_seed(body.get("seed", 0))
        ids: list[int] = []
        logps: list[float] = []
        while len(ids) < body["max_tokens"] and not (ids and ids[-1] in ends):
            logits = self.model(torch.tensor([[*prompt, *ids]])).logits[0, -1].log_softmax(dim=-1)
            hot = body["temperature"] > 0
            token = int(torch.multinomial(logits.exp(), 1, generator=random) if hot else logits.argmax())
            ids.append(token)
            logps.append(float(logits[token]))
            if any(stop in self.tokenizer.decode(ids) for stop in body.get("stop", [])):
                break
        return ids, logps


@contextmanager
def serving(model: Model) -> Iterator[str]:
    """The address of a server, while it runs."""
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            self._send(200, {}, json.dumps({"data": [{"id": NAME}]}).encode())

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                fault = model.faults.pop(0) if model.faults else None
                if fault is None:
                    status, found = model.answer(body)
            if isinstance(fault, float):
                time.sleep(fault)
                return
            self._send(*(fault or (status, {}, json.dumps(found).encode())))

        def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
