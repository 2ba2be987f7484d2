"""A real SLURM of one node on loopback, for tests: its own munged, slurmctld and slurmd, its own configuration, no root needed.

    apt-get install slurm-wlm munge
    python scripts/slurm.py FOLDER -- sinfo    # start it, run a command in it, end it
    python scripts/slurm.py --missing          # say what is not installed; exit code 1 if anything

Nothing outside the folder is written, and all daemons end with the command, however that ends. Jobs can be preempted and are
requeued then: what is sent to the partition ``urgent`` takes the place of what runs in ``main``.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from aloll_cli.watchdog import end_with_parent

DAEMONS = {"munged": "munge", "slurmctld": "slurm-wlm", "slurmd": "slurm-wlm"}  # and the packages of Debian that hold them
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
PATIENCE = 20.0  # seconds for a daemon to start or to end
CONF = """\
ClusterName=aloll
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
# a requeued job starts again when its credential has expired: by default after two minutes, at the earliest after 5 seconds
AuthInfo=socket={root}/munge.socket,cred_expire=5
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=2,sched_interval=2,batch_sched_delay=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=10
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=8000 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=60 State=UP PriorityTier=1
PartitionName=urgent Nodes={host} MaxTime=60 State=UP PriorityTier=10
"""


def missing() -> str:
    """What to install before a cluster can be started; "" for nothing."""
    packages = {package for daemon, package in DAEMONS.items() if shutil.which(daemon, path=PATH) is None}
    return f"apt-get install {' '.join(sorted(packages))}" if packages else ""


@contextmanager
def cluster(root: Path, cpus: int = 2) -> Iterator[dict[str, str]]:
    """Start a cluster in a new folder, and end it.

    Args:
        root: where its state and logs are.
        cpus: as many jobs of one CPU run at a time.

    Yields:
        The environment in which SLURM's commands find it.
    """
    root.mkdir(parents=True)
    for name in ("state", "spool"):
        (root / name).mkdir()
    host, user = socket.gethostname().partition(".")[0], subprocess.check_output(["id", "-un"], text=True).strip()
    controller_port, node_port = free_ports(2)
    key = root / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(1024))
    conf = root / "slurm.conf"
    conf.write_text(CONF.format(**locals()))
    environment = os.environ | {"SLURM_CONF": str(conf), "PATH": PATH}
    # --force: as root, too, and in a folder that others may read
    munge = ["--foreground", "--force", f"--socket={root}/munge.socket"]
    munge += [f"--{name}-file={root}/munge.{name}" for name in ("key", "pid", "seed", "log")]
    with ExitStack() as running:
        running.enter_context(daemon(root, environment, "munged", *munge))
        wait_for(lambda: (root / "munge.socket").exists(), root / "munged.out")
        running.enter_context(daemon(root, environment, "slurmctld", "-D", "-f", str(conf)))
        running.enter_context(daemon(root, environment, "slurmd", "-D", "-f", str(conf), "-N", host))
        wait_for(lambda: "idle" in asked(environment, "sinfo", "-h", "-o", "%T"), root / "slurmctld.log")
        try:
            yield environment
        finally:
            asked(environment, "scancel", "--user", user)
            wait_for(lambda: not asked(environment, "squeue", "-h"), root / "slurmctld.log")


@contextmanager
def daemon(root: Path, environment: dict[str, str], name: str, *arguments: str) -> Iterator[None]:
    """A daemon in the foreground, which ends with this context."""
    command = [str(shutil.which(name, path=PATH)), *arguments]
    with (root / f"{name}.out").open("wb") as out:
        process = subprocess.Popen(
            command, env=environment, stdout=out, stderr=out, start_new_session=True, preexec_fn=end_with_parent
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(there: Callable[[], bool], log: Path) -> None:
    """Until a condition holds; after PATIENCE seconds the program ends with what a log says."""
    end = time.monotonic() + PATIENCE
    while not there():
        if time.monotonic() > end:
            sys.exit(f"the cluster does not start or end:\n{log.read_text(errors='replace')[-3000:]}")
        time.sleep(0.1)


def asked(environment: dict[str, str], *command: str) -> str:
    """What a command of SLURM prints; nothing as long as its daemons do not answer."""
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False).stdout


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    with ExitStack() as open_ones:
        sockets = [open_ones.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def main(arguments: list[str]) -> int:
    """Returns the exit code of the command."""
    if arguments != ["--missing"] and (len(arguments) < 3 or arguments[1] != "--"):
        sys.exit(__doc__)
    if wanted := missing():
        sys.exit(f"no SLURM on this machine: {wanted}")
    if arguments == ["--missing"]:
        return 0
    with cluster(Path(arguments[0]).absolute()) as environment:
        return subprocess.run(arguments[2:], env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
