"""Judge and score with a real local server, and with a scripted one that lies, stalls, is busy and breaks off; all offline.

    python scripts/judge_with_server.py scripted OUT          # 200 pairs, killed twice, resumed; a judge that always says A
    python scripts/judge_with_server.py rewards OUT           # aloll run with reward=http and reward=llm, each to its end
    python scripts/judge_with_server.py real OUT MODEL [PYTHON]   # transformers serve with a folder of a chat model

OUT is a folder for artifacts; an evaluated run that lies in it is judged, else a small one is trained. PYTHON runs the server
and needs pip install 'transformers[serving]'; this Python runs aloll and needs pip install 'aloll[judge]'. Every server listens
on this machine alone and is stopped at the end.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import Any

from scripted_server import Act, Scripted, texts_of

SMALL = [
    "updates=60",
    "eval_every=30",
    "eval_prompts=16",
    "reference.updates=60",
    "resamples=1000",
    "threads=1",
    "optimizer.lr=3e-3",
]
PAIRS, CONCURRENCY = 200, 8
KEY = "ALOLL_TEST_KEY"
SECRET = "sk-not-to-be-found-anywhere-4711"


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def command(out: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "aloll_cli", *arguments, f"output_dir={out}"]


def environment() -> dict[str, str]:
    return os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", KEY: SECRET}


def aloll(out: Path, *arguments: str) -> str:
    """Run a command to its end; returns its stdout."""
    done = subprocess.run(command(out, *arguments), env=environment(), text=True, stdout=subprocess.PIPE, check=True)
    return done.stdout


def run_in(out: Path) -> str:
    """An evaluated run in a folder; one is trained and evaluated where there is none."""
    if not list((out / "reviews" / "metrics").glob("*/metrics.json")):
        aloll(out, "evaluate", *SMALL)
    return str(next((out / "reviews" / "metrics").glob("*/metrics.json")).parent)


def judge_options(out: Path, url: str, *options: str) -> list[str]:
    own = [
        f"runs=[{run_in(out)}]",
        "judge=llm",
        f"judge.url={url}",
        "judge.model=tester",
        f"judge.key={KEY}",
        f"judge.concurrency={CONCURRENCY}",
        "format=json",
    ]
    return ["judge", "resamples=1000", *own, *options]


def replies_kept(out: Path) -> int:
    """Lines of the files that hold replies."""
    return sum(file.read_bytes().count(b"\n") for file in (out / "reviews" / "replies").glob("*.jsonl"))


def killed(out: Path, server: Scripted, after: int, *options: str) -> int:
    """Judge until so many replies are kept, then kill -9; returns how many replies were sent and are not kept."""
    process = subprocess.Popen(
        command(out, *judge_options(out, server.url, *options)), env=environment(), stdout=subprocess.DEVNULL
    )
    while replies_kept(out) < after:
        if process.poll() is not None:
            raise SystemExit(f"the command ended before {after} replies")
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(3)  # the server's own threads end
    return sent_by(server) - replies_kept(out)


def sent_by(server: Scripted) -> int:
    return sum(kind == "say" and sent for _, kind, sent in server.log)


def fair(request: str) -> Act:
    """The longer response is more helpful; a tenth of the replies lie: they are no labels."""
    said = texts_of(request)
    a, b = len(said["response A"]), len(said["response B"])
    if (a * 31 + b) % 10 == 0:
        return Act(text="Response A is clearly {better}.")
    return Act(text=json.dumps({"helpful": "A" if a > b else "B" if b > a else "equal", "safe": "neither"}))


def troublesome(request: str, count: int) -> Act:
    """The same behind trouble: 429, 503, half a JSON, a broken connection, a stall; each request gets through later."""
    trouble = [Act("status"), Act("status", code=503), Act("half"), Act("drop"), Act("stall", seconds=7), Act("raw", "[1]")]
    place = len(request) % 11
    return trouble[place] if count == 0 and place < len(trouble) else Act(**{**vars(fair(request)), "seconds": 0.02})


def judge_scripted(out: Path) -> None:
    options = (f"judge.prompts={PAIRS}", "judge.timeout=5")
    with Scripted(troublesome, echo_key=True) as server:
        first = killed(out, server, 90, *options)
        lost = [first, killed(out, server, 260, *options) - first]  # what the first kill lost was sent again by then
        found = json.loads(aloll(out, *judge_options(out, server.url, *options)))
        times = Counter(key for key, kind, sent in server.log if kind == "say" and sent)
        trouble = Counter(kind for _, kind, _ in server.log)
        twice = sum(count - 1 for count in times.values())
        say(f"{found['pairs']} pairs, {len(times)} different requests, {sum(times.values())} replies sent; {dict(trouble)}")
        say(f"sent twice: {twice}; sent and not received at the two kills: {lost}")
        assert found["pairs"] == PAIRS
        assert len(times) == found["ballots"] == 2 * (PAIRS - found["identical"])
        assert twice == sum(lost) <= 2 * CONCURRENCY
        before = len(server.log)
        again = json.loads(aloll(out, *judge_options(out, server.url, *options, "resamples=999")))
        assert len(server.log) == before, "a reply that is kept was asked for again"
        assert again["cost"] == found["cost"]
    say(f"malformed: {found['malformed']} of {found['ballots']} ({found['malformed_why']}), left out {found['left_out']} pairs")
    by_hand(out, found)
    secret_is_nowhere(out)

    ten = "judge.prompts=20"
    with Scripted(lambda request, count: Act(text='{"helpful": "A", "safe": "A"}')) as server:
        always = json.loads(aloll(out, *judge_options(out, server.url, ten, "judge.revision=always-A")))
    of = always["questions"]["helpful"]
    say(f"always A: win rate {of['win_rate']['mean']}, position bias {of['position']['bias']}, consistent {of['consistent']}")
    assert (of["win_rate"]["mean"], of["position"]["bias"], of["consistent"]) == (0.5, 1.0, 0.0)


def by_hand(out: Path, found: dict[str, Any]) -> None:
    """The win rate computed again from the ballots and the evaluation's own responses."""
    folder, *_ = [  # with other resamples, intervals may be the same
        file.parent for file in (out / "reviews" / "judgements").glob("*/judgement.json") if json.loads(file.read_text()) == found
    ]
    ballots = [json.loads(line) for line in (folder / "ballots.jsonl").read_text().splitlines()]
    for question, of in found["questions"].items():
        scores = []
        for key in dict.fromkeys(ballot["key"] for ballot in ballots):
            own = [ballot for ballot in ballots if ballot["key"] == key]
            if all(ballot["labels"] for ballot in own):
                won = ["BA"[ballot["swapped"] is False] for ballot in own]  # the label that means the first side
                scores.append(fmean(
                    0.5 if ballot["labels"][question] in ("equal", "neither") else float(ballot["labels"][question] == label)
                    for ballot, label in zip(own, won, strict=True)
                ))  # fmt: skip
        scores += [0.5] * found["identical"]
        say(f"{question}: win rate {of['win_rate']['mean']:.6f} {of['win_rate']['ci95']}, from the ballots {fmean(scores):.6f}")
        assert abs(fmean(scores) - of["win_rate"]["mean"]) < 1e-9


def secret_is_nowhere(out: Path) -> None:
    files = [file for file in out.rglob("*") if file.is_file()]
    found = [str(file) for file in files if SECRET.encode() in file.read_bytes()]
    say(f"the key in {len(found)} of {len(files)} files")
    assert found == []


def rewards(out: Path) -> None:
    small = ["run", *SMALL, "task.limit=200", "task.limit_eval=24", "values.folds=2"]

    def words(row: dict[str, Any]) -> float:
        return min(1.0, len(row["response"].split()) / 30)

    def score(request: str, count: int) -> Act:
        if count == 0 and len(request) % 5 == 0:
            return Act("status")
        return Act("raw", json.dumps({"scores": [words(row) for row in json.loads(request)["rows"]]}))

    def grade(request: str, count: int) -> Act:
        if count == 0 and len(request) % 50 == 0:
            return Act("half")
        said = texts_of(request)["response"]
        return Act(text="hm" if len(said) % 97 == 0 else f"Score: {1 + round(9 * words({'response': said}))}")

    for name, behaviour, options in (
        ("http", score, ["reward.revision=1", "reward.rows=16", f"reward.key={KEY}"]),
        ("llm", grade, ["reward.model=tester", f"reward.key={KEY}", "reward.concurrency=16"]),
    ):
        with Scripted(behaviour) as server:
            start = time.monotonic()
            said = aloll(out, *small, f"reward={name}", f"reward.url={server.url}", *options)
            kinds = Counter(kind for _, kind, _ in server.log)
        gain = re.search(r"^gain .*", said, re.MULTILINE)
        say(f"reward={name}: {time.monotonic() - start:.0f} s, requests {dict(kinds)}; {gain[0] if gain else said[-300:]}")
        assert gain
    secret_is_nowhere(out)


@contextmanager
def serving(python: str, model: str) -> Iterator[str]:
    """``transformers serve`` on a free port of this machine; stopped with the block. Yields its address."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    line = [python, "-c", "from transformers.cli.transformers import main; main()", "serve", model]
    line += ["--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(line, env=environment(), stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1)
                break
            except OSError:
                if process.poll() is not None:
                    raise SystemExit(f"the server ended with {process.returncode}") from None
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    with socket.socket() as gone:
        assert gone.connect_ex(("127.0.0.1", port)) != 0, "the server still listens"


def judge_really(out: Path, model: str, python: str) -> None:
    options = [f"judge.model={model}", "judge.prompts=10", "judge.max_tokens=24", "judge.concurrency=2", "judge.timeout=300"]
    with serving(python, model) as url:
        start = time.monotonic()
        found = json.loads(aloll(out, *judge_options(out, url, *options)))
        say(f"{found['by']}: {found['ballots']} replies in {time.monotonic() - start:.0f} s")
        say(f"malformed: {found['malformed_why']}; cost: {found['cost']}")
        start = time.monotonic()
        again = json.loads(aloll(out, *judge_options(out, url, *options, "resamples=999")))
        say(f"the same again: {time.monotonic() - start:.0f} s, nothing asked")
        assert again["cost"] == found["cost"]
        rubric = 'reward.rubric="Score how good the review reads."'
        own = [
            "reward=llm",
            f"reward.url={url}",
            f"reward.model={model}",
            rubric,
            "reward.max_tokens=8",
            "reward.max_malformed=1",
        ]
        said = aloll(out, "score-rewards", "task.limit=12", "task.limit_eval=4", "threads=1", *own, "reward.concurrency=2")
        say(said)
    for question, of in found["questions"].items():
        say(f"{question}: {of}")
    secret_is_nowhere(out)


def main() -> None:
    what, out, *more = sys.argv[1:] or ["", ""]
    folder = Path(out).resolve()
    if what == "scripted":
        judge_scripted(folder)
    elif what == "rewards":
        rewards(folder)
    elif what == "real" and more:
        judge_really(folder, str(Path(more[0]).resolve()), more[1] if len(more) > 1 else sys.executable)
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
