"""Processes that torchrun, accelerate launch or srun started, on one machine or several, as their environment describes them.

The first one composes the configuration; the others get it from that one, through the store that all of them know.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import socket
import struct
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any

from aloll_cli.errors import UserError
from aloll_cli.runtime.link import Link

MEETING = timedelta(minutes=10)  # for all processes to arrive
WAITING = timedelta(days=7)  # for the first one to compose, build alone or wait for a lock
ADDRESS_OF = 0x8915  # SIOCGIFADDR, netdevice(7)
LEAVING = 50  # tenths of a second that the first process waits for the others to have left
PORTS = range(20000, 30000)  # from which a SLURM job's step gets one


def size() -> int:
    """How many processes were started together; 1 where this one stands alone."""
    return int(_environment().get("WORLD_SIZE", "1"))


def rank() -> int:
    """The number of this process among them."""
    return int(_environment().get("RANK", "0"))


class Rendezvous:
    """The processes that were started together, connected.

    Attributes:
        store: of torch, for keys and values that all of them read.
    """

    def __init__(self, stage: str) -> None:
        """Wait for all processes.

        Raises:
            UserError: some have not come, or their environment says too little.
        """
        from torch.distributed import PrefixStore  # type: ignore[attr-defined]
        from torch.distributed.rendezvous import rendezvous

        os.environ.update(_environment())
        missing = [name for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]
        if missing:
            hint = "torchrun --no-python … aloll …, or set MASTER_ADDR to the first machine and MASTER_PORT to a free port of it"
            raise UserError(f"the environment describes {size()} processes, but does not say {' and '.join(missing)}.", hint)
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        if interface := _interface(address):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
        try:
            found, _, _ = next(rendezvous("env://", timeout=MEETING))
            self.store = PrefixStore("aloll", found)
            link = Link(0, address, 0, stage, speaks=True) if rank() == 0 else None
            if link is not None:
                self.store.set("link", str(link.port))
            self._link = link or Link(rank(), address, int(self.store.get("link")), stage, _is_first_here())
        except RuntimeError as error:  # torch's DistStoreError and DistNetworkError
            what = f"the {size()} processes of this job did not meet at {address}:{port}: {str(error).splitlines()[0]}."
            raise UserError(what, "Look whether all were started, and whether they reach that address and port.") from None
        self._jobs = 0

    def send(self, message: Mapping[str, Any]) -> None:
        """Give all other processes a message, in the first one."""
        self.store.set(f"message/{self._jobs}", json.dumps(message))
        self._jobs += 1

    def receive(self) -> dict[str, Any]:
        """The next message, in the other processes."""
        self.store.wait([f"message/{self._jobs}"], WAITING)
        found: dict[str, Any] = json.loads(self.store.get(f"message/{self._jobs}"))
        self._jobs += 1
        return found

    def speaks(self) -> bool:
        """Whether this process is the one to say why all of them end: the first to ask."""
        try:
            return int(self.store.add("said", 1)) == 1
        except RuntimeError:  # the store has gone with its process, which the links name
            return False

    def leave(self) -> None:
        """End in order; what the first one has sent was read by all before."""
        with suppress(RuntimeError):
            self.store.add("left", 1)
            if rank() == 0 and "TORCHELASTIC_USE_AGENT_STORE" not in os.environ:  # the store ends with this process
                for _ in range(LEAVING):
                    if int(self.store.add("left", 0)) == size():
                        break
                    time.sleep(0.1)
        self._link.end()


_current: Rendezvous | None = None


def meet(stage: str) -> Rendezvous:
    """Wait for the other processes of this job. Raises UserError where they do not come."""
    global _current
    _current = Rendezvous(stage)
    return _current


def current() -> Rendezvous | None:
    """That of this process; None where it stands alone, or its parent is aloll."""
    return _current


def _environment() -> dict[str, str]:
    """The variables that torch reads, from those of a step of SLURM where nobody set them."""
    names = {"RANK": "SLURM_PROCID", "WORLD_SIZE": "SLURM_STEP_NUM_TASKS", "LOCAL_RANK": "SLURM_LOCALID"}
    known = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    given = {name: os.environ[name] for name in known if name in os.environ}
    # a batch script is no step, and runs one process, whatever its job has reserved
    if "RANK" in given or int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) < 2:
        return given
    found = {name: os.environ[value] for name, value in names.items() if value in os.environ}
    if first := re.match(r"([^\[,]+)(?:\[(\d+))?", os.environ.get("SLURM_STEP_NODELIST", "")):
        found["MASTER_ADDR"] = first[1] + (first[2] or "")  # of node[03-07,12]
    with suppress(ValueError):
        job, step = int(os.environ.get("SLURM_JOB_ID", "")), int(os.environ.get("SLURM_STEP_ID", ""))
        found["MASTER_PORT"] = str(PORTS[(job * 31 + step) % len(PORTS)])
    return found | given


def _is_first_here() -> bool:
    """Whether this is the first process of its machine."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def _interface(address: str) -> str | None:
    """The network interface that leads to an address; gloo would take that of this machine's name, which may be a loopback."""
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((address, 9))  # sends nothing
        own = probe.getsockname()[0]
        for _, name in socket.if_nameindex():
            with suppress(OSError):
                found = fcntl.ioctl(probe.fileno(), ADDRESS_OF, struct.pack("256s", name.encode()[:15]))
                if socket.inet_ntoa(found[20:24]) == own:
                    return name
    return None
