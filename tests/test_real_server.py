"""A real server: ``transformers serve`` holds a tiny model, which generates the responses that it generates here."""

import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager

import httpx
import pytest
from tiny import composed, outspoken, reviews, store

from aloll_cli.artifacts.generations import load_generations
from aloll_cli.artifacts.pipeline import Pipeline
from aloll_cli.errors import UserError

pytestmark = pytest.mark.slow


@contextmanager
def transformers_serve(folder, log):
    """The address of a server that holds a saved model, while it runs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(folder), "--device=cpu", "--dtype=float32"]
    offline = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_UPDATE_CHECK": "1", "OMP_NUM_THREADS": "1"}
    with log.open("w") as file:
        server = subprocess.Popen([*command, f"--port={port}"], stdout=file, stderr=file, env=os.environ | offline)
    try:
        for _ in range(600):
            assert server.poll() is None, log.read_text()[-2000:]
            try:
                httpx.get(f"http://localhost:{port}/health", trust_env=False).raise_for_status()
                break
            except httpx.TransportError:
                time.sleep(0.1)
        yield f"http://localhost:{port}"
    finally:
        server.terminate()
        server.wait(30)


def responses(tmp_path, model, *options):
    """The table of responses to the test prompts, and the folder that it is in."""
    rows = tmp_path / "rows" if (tmp_path / "rows").exists() else reviews(tmp_path / "rows", others=6)
    line = Pipeline(
        composed(
            "model=pretrained", f"model.path={model}", "reference=pretrained", f"task.path={rows}", "task.max_response_tokens=8",
            *options,
        )
    )  # fmt: skip
    opened = store(tmp_path / "out")
    folder = opened.ensure(line.side(line.reference, line.examples).generations)
    return load_generations(folder).drop_columns(["stored"]), folder


def test_transformers_serve_generates_what_is_generated_here_and_another_model_is_refused(tmp_path):
    model, other = outspoken(tmp_path / "model"), outspoken(tmp_path / "other", seed=1)
    with transformers_serve(model, tmp_path / "log") as url:
        here, _ = responses(tmp_path, model, "generation=greedy")
        there, folder = responses(tmp_path, model, "generation=greedy", f"generation.server={url}")
        assert there.to_pylist() == here.to_pylist()
        assert '"prompts": "text with the same tokens"' in (folder / "server.json").read_text()
        sampled, _ = responses(tmp_path, model, "generation.samples=2", f"generation.server={url}")
        assert len(set(sampled.column("response").to_pylist())) == sampled.num_rows == 12
        with pytest.raises(UserError, match=r"no server holds this policy.*Server is pinned to"):
            responses(tmp_path, other, f"generation.server={url}")
        with pytest.raises(UserError, match=r"no server holds this policy.*nats below the likeliest"):
            responses(tmp_path, other, f"generation.server={url}", f"generation.server_model={model}")
