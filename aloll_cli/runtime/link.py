"""A second, tiny process beside each process of a job on several machines, which hears of the end of any other.

gloo and NCCL wait for ever for a machine that was switched off or cut off: nothing tells them. So these processes send each other
a sign every second, through the first one. One that has ended without saying so, or is silent for LIMIT seconds, is named in
every machine, and each kills the process that it belongs to GRACE seconds later, if that has not ended for the same reason.

They are processes and no threads because a library may hold the interpreter for longer than LIMIT.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress

LIMIT = 15.0  # seconds of silence
GRACE = 5.0  # seconds to end by itself
ENDED = b"e"  # what a link is told before its process ends in order

# stdin is a pipe from the process that it belongs to
CODE = """
import os, select, signal, socket, sys, time
parent, rank, address, port, limit, grace, stage, speaks = sys.argv[1:]
host = os.uname().nodename
os.chdir("/")
peers, server = {}, None  # socket -> [name, when it was heard, what it has begun to say]

def say(text):
    for peer in list(peers):
        try:
            peer.sendall(text.encode() + b"\\n")
        except OSError:
            pass

def doom(what):
    say("x " + what)
    if speaks == "1":
        os.write(2, f"aloll {stage}: {what}; finished work and checkpoints are kept: repeat the command to continue.\\n".encode())
    if not select.select([0], [], [], float(grace))[0]:  # it would end by itself
        try:
            os.kill(int(parent), signal.SIGKILL)
        except OSError:
            pass
    sys.exit()

def joined(peer):
    peer.settimeout(2.0)
    peers[peer] = [None, time.monotonic(), b""]

if rank == "0":
    server = socket.create_server(("", 0))
    os.write(1, b"%d" % server.getsockname()[1])
    os.close(1)
else:
    try:
        joined(socket.create_connection((address, int(port)), timeout=float(limit)))
    except OSError as error:
        doom(f"process {rank} on {host} does not reach {address} ({error})")
    peers[next(iter(peers))][0] = f"process 0 on {address}"
    say(f"h process {rank} on {host}")
beat = 0.0
while True:
    now = time.monotonic()
    if now >= beat + 1.0:
        say("b")
        beat = now
    for peer, (name, heard, _) in list(peers.items()):
        if now > heard + float(limit):
            doom(f"{name} is not heard of any more: its machine or the network is gone")
    for ready in select.select([0, *peers, *([server] if server else [])], [], [], 0.5)[0]:
        if ready == 0:
            if os.read(0, 1) == b"e":
                say("q")
            else:
                say(f"x process {rank} on {host} was killed")
            sys.exit()
        if ready is server:
            joined(server.accept()[0])
            continue
        if ready not in peers:
            continue
        try:
            said = ready.recv(4096)
        except OSError:
            said = b""
        if not said:
            name = peers.pop(ready)[0]
            doom(f"{name} has gone")
        state = peers[ready]
        state[1] = time.monotonic()
        *lines, state[2] = (state[2] + said).split(b"\\n")
        for line in lines:
            word, _, rest = line.decode(errors="replace").partition(" ")
            if word == "h":
                state[0] = rest
            elif word == "x":
                doom(rest)
            elif word == "q":
                peers.pop(ready, None)
                if rank != "0":
                    sys.exit()
                break
"""


class Link:
    """The link of this process."""

    def __init__(self, rank: int, address: str, port: int, stage: str, speaks: bool) -> None:
        """Start it.

        Args:
            rank: of this process.
            address: of the first process's machine.
            port: of the first one's link; 0 in the first process.
            stage: for messages.
            speaks: whether it says why it ends this process; one in each machine is enough.
        """
        words = [str(os.getpid()), str(rank), address, str(port), str(LIMIT), str(GRACE), stage, str(int(speaks))]
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", CODE, *words],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE if rank == 0 else subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        self.port = port if rank else self._told_port()

    def _told_port(self) -> int:
        assert self._process.stdout is not None
        with self._process.stdout as told:
            return int(told.read())

    def end(self) -> None:
        """Tell the others that this process ends in order."""
        assert self._process.stdin is not None
        with suppress(OSError), self._process.stdin as told:
            told.write(ENDED)
        self._process.wait()
