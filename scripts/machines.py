"""Train on two machines that share a folder: equal to one process, and what happens when one of them dies.

    python scripts/machines.py --folder machines

The machines are two network namespaces with a cable between them and names of their own; torchrun starts a process on each. One
is then killed, or its cable is cut, in the middle of training: the job must end within 30 seconds with a cause, and the repeated
command must go on and end with what one process gives, to 1e-5. Needs root and iproute2; says so and ends where it cannot run.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

CLOSE, LIMIT = 1e-5, 30.0
HOSTS = {"aloll-a": "10.213.7.1", "aloll-b": "10.213.7.2"}
FIRST, SECOND = HOSTS
OWN_FILES = Path("/etc/netns")
LINE = [
    "model.hidden_size=32", "model.layers=1", "model.heads=2", "model.intermediate_size=64", "model.vocab_size=400",
    "eval_every=100", "eval_prompts=8", "checkpoint_every=10", "batch_size=8", "updates=100", "optimizer.eps=1e-3",
    "reference.updates=12", "reference.eval_every=4", "reference.batch_size=8", "task.max_prompt_tokens=24",
    "task.max_response_tokens=12", "values=constant", "values.value=0.4", "threads=1", "device=cpu",
]  # fmt: skip


def sh(*words: str, check: bool = True) -> str:
    return subprocess.run(words, check=check, capture_output=True, text=True).stdout


def lay_cable() -> None:
    """Two namespaces with an interface each, of one cable."""
    remove_cable()
    names = "127.0.0.1 localhost\n" + "".join(f"{address} {host}\n" for host, address in HOSTS.items())
    for host in HOSTS:
        sh("ip", "netns", "add", host)
        (OWN_FILES / host).mkdir(parents=True, exist_ok=True)  # ip shows them in place of those of /etc
        (OWN_FILES / host / "hosts").write_text(names)
    sh("ip", "link", "add", "aloll0", "netns", FIRST, "type", "veth", "peer", "name", "aloll0", "netns", SECOND)
    for host, address in HOSTS.items():
        sh("ip", "-n", host, "addr", "add", f"{address}/24", "dev", "aloll0")
        for interface in ("lo", "aloll0"):
            sh("ip", "-n", host, "link", "set", interface, "up")


def remove_cable() -> None:
    for host in HOSTS:
        sh("ip", "netns", "del", host, check=False)
        shutil.rmtree(OWN_FILES / host, ignore_errors=True)


def why_not() -> str | None:
    """Why this machine cannot play two; None if it can."""
    if os.geteuid() != 0:
        return "it needs root, for network namespaces"
    if shutil.which("ip") is None or shutil.which("unshare") is None:
        return "it needs ip and unshare (apt-get install iproute2 util-linux)"
    try:
        lay_cable()
    except subprocess.CalledProcessError as error:
        return f"network namespaces cannot be made here: {error.stderr.strip()}"
    return None


class Job:
    """``torchrun … aloll train …`` on both machines."""

    def __init__(self, folder: Path, words: list[str]) -> None:
        self._folder, self.started = folder, time.monotonic()
        self._machines = [self._start(host, words) for host in HOSTS]

    def _start(self, host: str, words: list[str]) -> subprocess.Popen[bytes]:
        launcher = [
            sys.executable, "-m", "torch.distributed.run", "--nnodes=2", f"--node-rank={list(HOSTS).index(host)}",
            "--nproc-per-node=1", f"--master-addr={HOSTS[FIRST]}", "--master-port=29400", "--no-python",
        ]  # fmt: skip
        aloll = [str(Path(sys.executable).with_name("aloll")), "train", *words]
        named = ["unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', host, *launcher, *aloll]
        said = (self._folder / f"{host}.txt").open("wb")
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            ["ip", "netns", "exec", host, *named], cwd=self._folder, stdout=said, stderr=said, env=environment
        )

    def wait(self) -> list[int]:
        """The exit codes of both."""
        return [machine.wait() for machine in self._machines]

    def is_running(self) -> bool:
        return None in [machine.poll() for machine in self._machines]

    def ended_on(self, host: str) -> tuple[float, float]:
        """Seconds until none of aloll's processes runs on a machine, and until torchrun has ended there, too."""
        start, aloll = time.monotonic(), 0.0
        while left := pids(host):
            if not aloll and all(map(is_launcher, left)):
                aloll = time.monotonic() - start
            if time.monotonic() > start + 3 * LIMIT:
                break
            time.sleep(0.1)
        return aloll or time.monotonic() - start, time.monotonic() - start

    def said(self, host: str) -> str:
        return (self._folder / f"{host}.txt").read_text(errors="replace")


def pids(host: str) -> list[int]:
    return [int(pid) for pid in sh("ip", "netns", "pids", host).split()]


def is_launcher(pid: int) -> bool:
    with suppress(OSError):
        return b"torch.distributed.run" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return True


def kill(host: str) -> None:
    """A machine without power whose system still says goodbye: all its processes at once."""
    for pid in pids(host):
        with suppress(ProcessLookupError):
            os.kill(pid, 9)


def cut(host: str) -> None:
    """A machine that is gone without a word."""
    sh("ip", "-n", host, "link", "set", "aloll0", "down")


def policy(folder: Path) -> Path:
    (found,) = folder.glob("outputs/reviews/policy/*-*")
    return found


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (policy(folder) / "metrics.jsonl").read_text().splitlines()]


def off(folder: Path, one: Path) -> float:
    return max(abs(mine - theirs) / abs(theirs) for mine, theirs in zip(losses(folder), losses(one), strict=True))


def alone(folder: Path) -> None:
    """The same by one process."""
    folder.mkdir(parents=True, exist_ok=True)
    aloll = str(Path(sys.executable).with_name("aloll"))
    subprocess.run([aloll, "train", *LINE, "-q"], cwd=folder, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})


def without_policy(one: Path, folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(one, folder)
    shutil.rmtree(folder / "outputs" / "reviews" / "policy")
    return folder


def try_all(root: Path, only: str) -> bool:
    """Whether all of it holds."""
    one, good = root / "one", True
    alone(one)
    for strategy in ("ddp", "fsdp") if not only else ():
        folder = without_policy(one, root / f"two {strategy}")
        job = Job(folder, [*LINE, f"strategy={strategy}"])
        codes = job.wait()
        if codes != [0, 0]:
            raise SystemExit(f"exit codes {codes}\n{job.said(FIRST)}\n{job.said(SECOND)}")
        apart = off(folder, one)
        good &= apart < CLOSE
        sys.stdout.write(
            f"two machines, {strategy}: losses of {len(losses(folder))} steps differ by {apart:.1e} from one process's\n"
        )
    for name, host, hit, left in (
        ("the second killed", SECOND, kill, FIRST), ("the first killed", FIRST, kill, SECOND),
        ("the second cut off", SECOND, cut, FIRST), ("the first cut off", FIRST, cut, SECOND),
    ):  # fmt: skip
        if only not in name:
            continue
        folder = without_policy(one, root / name)
        words = [*LINE, "strategy=fsdp"]
        job = Job(folder, words)
        while not [*folder.glob("outputs/reviews/policy/*.partial/checkpoints/update-*10")]:
            if not job.is_running():
                raise SystemExit(f"ended too early\n{job.said(FIRST)}\n{job.said(SECOND)}")
            time.sleep(0.02)
        hit(host)
        seconds, everything = job.ended_on(left)
        causes = [line for line in job.said(left).splitlines() if line.startswith("aloll train:")]
        for machine in HOSTS:
            kill(machine)
        job.wait()
        lay_cable()
        again = Job(folder, words)
        codes = again.wait()
        resumed = [line.strip() for line in (policy(folder) / "log.txt").read_text().splitlines() if "resumed after" in line]
        apart = off(folder, one) if codes == [0, 0] else float("inf")
        good &= seconds < LIMIT and bool(causes) and bool(resumed) and apart < CLOSE
        sys.stdout.write(f"{name}: on the other, aloll ended after {seconds:.1f} s, torchrun after {everything:.1f} s\n")
        sys.stdout.writelines(f"  {line}\n" for line in [*causes, *resumed[-1:]])
        sys.stdout.write(f"  exit codes of the repeated command {codes}, losses differ by {apart:.1e}\n")
        sys.stdout.flush()
    return good


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--only", default="", help="a part of the name of what happens: 'cut off'")
    given = parser.parse_args()
    root = given.folder.resolve()
    if reason := why_not():
        sys.stdout.write(f"not run: {reason}\n")
        return
    try:
        good = try_all(root, given.only)
    finally:
        for host in HOSTS:
            with suppress(subprocess.CalledProcessError):
                kill(host)
        remove_cable()
    if not good:
        raise SystemExit("some of it does not hold")


if __name__ == "__main__":
    main()
