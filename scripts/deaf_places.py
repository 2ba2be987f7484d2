"""SIGTERM where a process does not hear it: how long until every process of a command has ended.

    python scripts/deaf_places.py                   # all places, two at a time
    python scripts/deaf_places.py --only sweep

Each place is a real command: a reward function that is stuck in a library or swallows exceptions, a template that loops, a
download that never comes, and so on (not one that tells the system to ignore SIGTERM). SIGTERM is sent when it is there; batch
queues and container hosts allow 15 seconds then.
Ends with exit code 1 where a command or one of its processes lives longer.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

ALLOWED = 15.0  # seconds
STUCK = {  # the body of a reward function, by name
    "loop": "while True: pass",
    "sleep": "time.sleep(9999)",
    "swallowed": "while True:\n        try: time.sleep(1)\n        except BaseException: pass",
    "regular_expression": "re.match(r'(a*)*b', 'a' * 60)",
    "big_power": "3 ** 10 ** 9",
    "big_text": "str(7 ** 10 ** 7)",
    "sorting": "sorted(range(10 ** 7), key=lambda n: (str(-n), n))",
    "sum_of_a_range": "sum(range(10 ** 12))",
    "list_search": "[i in x for x in [list(range(10 ** 6))] for i in range(10 ** 6, 10 ** 9)]",
    "json": "json.loads('[' + '0,' * (3 * 10 ** 7) + '0]'); time.sleep(9999)",
    "yaml_aliases": "yaml.safe_dump(yaml.safe_load(ALIASES))",
    "hashing": "[hashlib.sha256(b'x' * 10 ** 9).digest() for _ in range(999)]",
    "compressing": "[zlib.compress(os.urandom(10 ** 8), 9) for _ in range(999)]",
    "key_derivation": "hashlib.pbkdf2_hmac('sha256', b'x', b'y', 2 ** 31 - 1)",
    "socket": "s = socket.socketpair(); s[0].recv(1)",
    "pipe": "os.read(os.pipe()[0], 1)",
    "fifo": "os.mkfifo('fifo'); open('fifo').read()",
    "child": "subprocess.run(['sleep', '9999'])",
    "lock": "l = threading.Lock(); l.acquire(); l.acquire()",
    "thread": "t = threading.Thread(target=time.sleep, args=(9999,)); t.start(); t.join()",
    "thread_pool": "from concurrent.futures import ThreadPoolExecutor as T; T().submit(time.sleep, 9999).result()",
    "interpreter_held": "import ctypes; ctypes.PyDLL(None).sleep(9999)",
    "signal_blocked": "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM]); time.sleep(9999)",
    "matrix_product": "import torch; [torch.randn(6000, 6000) @ torch.randn(6000, 6000) for _ in range(999)]",
    "decomposition": "import numpy; numpy.linalg.svd(numpy.random.rand(9000, 9000))",
    "tokenizer": "import tokenizers; tokenizers.Tokenizer(tokenizers.models.BPE()).train_from_iterator("
    "(str(n ** 9) for n in range(10 ** 8)), tokenizers.trainers.BpeTrainer(vocab_size=10 ** 6))",
    "data_base": "sqlite3.connect(':memory:').execute("
    "'with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n').fetchall()",
    "end_of_process": "import atexit; atexit.register(time.sleep, 9999); sys.exit(3)",
}
BEFORE = """import hashlib, json, os, re, signal, socket, sqlite3, subprocess, sys, threading, time, zlib
import yaml
ALIASES = "\\n".join(["a0: &a0 [x]", *(f"a{i}: &a{i} [" + ", ".join([f"*a{i - 1}"] * 9) + "]" for i in range(1, 12))])
"""
TEMPLATE = "{% for i in range(99999) %}{% for j in range(99999) %}{% set x = messages %}{% endfor %}{% endfor %}"
SMALL = ("threads=1", "model.hidden_size=32", "model.layers=1", "model.heads=2", "model.intermediate_size=64")


@dataclass
class Place:
    """A command that is deaf somewhere.

    Attributes:
        words: of aloll.
        ready: a file that appears when it is there; without one, ``after`` seconds.
        environment: more of it.
    """

    words: list[str]
    ready: Path | None = None
    after: float = 0.0
    environment: dict[str, str] = field(default_factory=dict)


def places(root: Path) -> dict[str, Place]:
    """Every place, by name, with its files in folders of its own."""
    found = {}
    for name, body in STUCK.items():
        folder = root / name
        folder.mkdir(parents=True)
        file = folder / "stuck.py"
        file.write_text(
            f"{BEFORE}\ndef score(rows):\n    open('ready', 'w').close()\n    {body}\n    return [0.0 for _ in rows]\n"
        )
        words = [
            "score-rewards",
            "reward=function",
            f"reward.path={file}",
            "reward.function=score",
            "reward.timeout=null",
            *SMALL,
        ]
        found[name] = Place(words, folder / "ready")
    sleeping = found["sleep"].words
    for name, words in {
        "workers": [*found["interpreter_held"].words, "processes=2"],
        "workers_swallow": [*found["swallowed"].words, "processes=2"],
        "sweep": [*sleeping, "-m", "reward.rows=1,2"],
    }.items():
        (root / name).mkdir()
        found[name] = Place(words, root / name / "ready")
    (root / "imports").mkdir()
    found["imports"] = Place(["train", *SMALL], after=0.4)
    found["template"] = template(root / "template")
    found["plugin"] = plugin(root / "plugin")
    found["yaml"] = configuration(root / "yaml")
    found["download"] = download(root / "download")
    return found


def template(folder: Path) -> Place:
    """A chat template that loops."""
    import tokenizers
    import transformers

    folder.mkdir()
    built = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "<eos>": 1}, unk_token="a"))
    built.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=built, eos_token="<eos>", chat_template=TEMPLATE)
    tokenizer.save_pretrained(folder / "model")
    config = transformers.LlamaConfig(
        vocab_size=2, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, eos_token_id=1
    )
    transformers.LlamaForCausalLM(config).save_pretrained(folder / "model")
    with (folder / "chats.jsonl").open("w") as stream:
        for i in range(500):
            turns = [{"role": "user", "content": f"a {i}"}, {"role": "assistant", "content": "a"}]
            stream.write(json.dumps({"messages": turns, "reward": i % 2}) + "\n")
    words = ["inspect", "task=local", f"task.path={folder / 'chats.jsonl'}", "model=pretrained", f"model.path={folder / 'model'}"]
    return Place([*words, "threads=1"], after=12)


def plugin(folder: Path) -> Place:
    """A plugin that loops when it is imported."""
    (folder / "mine" / "reward").mkdir(parents=True)
    (folder / "mine" / "reward" / "slow.py").write_text("open('ready', 'w').close()\nwhile True: pass\n")
    (folder / "mine" / "reward" / "slow.yaml").write_text("defaults: ['/schema/reward/slow@_here_']\n")
    return Place(["train", "plugins=mine", "reward=slow"], folder / "ready")


def configuration(folder: Path) -> Place:
    """A YAML file whose aliases stand for gigabytes."""
    (folder / "conf" / "experiment").mkdir(parents=True)
    aliases = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10)]
    (folder / "conf" / "experiment" / "big.yaml").write_text("\n".join(["# @package _global_", "a0: &a0 [x]", *aliases]))
    return Place(["train", "--config-dir=conf", "experiment=big"], after=6)


def download(folder: Path) -> Place:
    """A hub that takes connections and says nothing."""
    folder.mkdir()
    silent = socket.socket()
    silent.bind(("127.0.0.1", 0))
    silent.listen(99)
    _open.append(silent)
    hub = {"HF_ENDPOINT": f"http://127.0.0.1:{silent.getsockname()[1]}", "HF_HUB_OFFLINE": "0", "HF_HOME": str(folder / "home")}
    words = ["train-reference", "model=pretrained", "model.path=nobody/nothing", "reference=pretrained", "threads=1"]
    return Place(words, after=10, environment=hub)


_open: list[socket.socket] = []


def living(session: int) -> list[int]:
    """Processes that descend from one, or did when it lived, by their session or its environment's mark."""
    mark = f"DEAF_PLACE={session}".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            state = (path / "stat").read_text().rpartition(")")[2].split()[0]
            if state != "Z" and mark in (path / "environ").read_bytes().split(b"\0"):
                found.append(int(path.name))
        except OSError:
            continue
    return found


def seconds_to_end(name: str, place: Place, root: Path, number: int) -> tuple[str, float, str]:
    """Start a command, wait until it is there, send SIGTERM; returns the seconds until all its processes ended, and its words."""
    log = root / name / "log.txt"
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "DEAF_PLACE": str(number)} | place.environment
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "aloll_cli", *place.words],
            cwd=root / name, env=environment, stdout=stream, stderr=stream, stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
    begun = time.monotonic()
    while process.poll() is None and time.monotonic() - begun < 120:
        if place.ready.exists() if place.ready else time.monotonic() - begun > place.after:
            break
        time.sleep(0.02)
    time.sleep(0.5 if place.ready else 0)
    if process.poll() is not None:
        said = log.read_text(errors="replace").strip().splitlines()
        return name, -1.0, f"ended by itself: {said[-1] if said else process.returncode}"
    process.send_signal(signal.SIGTERM)
    start = time.monotonic()
    while (left := living(number)) and time.monotonic() - start < 60:
        process.poll()
        time.sleep(0.05)
    seconds = time.monotonic() - start
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    process.wait()
    said = log.read_text(errors="replace").strip().splitlines()
    return name, seconds, said[-1] if said else ""


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", help="names of places")
    args = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="aloll-deaf-"))
    chosen = {name: place for name, place in places(root).items() if not args.only or name in args.only}
    with ThreadPoolExecutor(2) as pool:
        jobs = [
            pool.submit(seconds_to_end, name, place, root, os.getpid() * 1000 + number)
            for number, (name, place) in enumerate(chosen.items())
        ]
        found = []
        for job in jobs:
            name, seconds, said = job.result()
            found.append(seconds)
            sys.stdout.write(f"{name:20} {seconds:5.1f} s  {said[:150]}\n")
            sys.stdout.flush()
    there = [seconds for seconds in found if seconds >= 0]
    late = sum(seconds > ALLOWED for seconds in there)
    sys.stdout.write(f"{len(there)} places, {len(found) - len(there)} ended before; at most {max(there):.1f} s, {late} late\n")
    return 1 if late else 0


if __name__ == "__main__":
    sys.exit(main())
