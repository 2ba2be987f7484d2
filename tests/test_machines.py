"""Processes that torchrun or srun started: what their environment says, what they share, how they hear of each other's end."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest
from running import SMALL
from tiny import in_two

from aloll_cli.cli.composition import enter_hydra
from aloll_cli.command import Command
from aloll_cli.errors import UserError
from aloll_cli.runtime import rendezvous
from aloll_cli.stopping import Stopper
from aloll_cli.store import places

TORCHRUN = {"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "MASTER_ADDR": "one", "MASTER_PORT": "29400"}
STEP = {
    "SLURM_PROCID": "2", "SLURM_STEP_NUM_TASKS": "4", "SLURM_LOCALID": "0", "SLURM_STEP_NODELIST": "gpu[03-05,09],login",
    "SLURM_JOB_ID": "1234", "SLURM_STEP_ID": "0",
}  # fmt: skip


@pytest.fixture
def environment(monkeypatch):
    """Sets variables; none of a launcher's are set otherwise."""
    for name in [name for name in os.environ if name in TORCHRUN or name.startswith("SLURM_")]:
        monkeypatch.delenv(name)

    def set_to(values):
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return set_to


def test_a_process_that_nobody_started_with_others_stands_alone(environment):
    assert (rendezvous.rank(), rendezvous.size()) == (0, 1)
    environment({name: value for name, value in STEP.items() if name != "SLURM_STEP_NUM_TASKS"} | {"SLURM_NTASKS": "4"})
    assert rendezvous.size() == 1  # a batch script, outside of any step


def test_torchrun_and_a_step_of_slurm_say_who_belongs_together(environment):
    environment(STEP)
    assert (rendezvous.rank(), rendezvous.size()) == (2, 4)
    found = rendezvous._environment()
    assert (found["MASTER_ADDR"], found["LOCAL_RANK"]) == ("gpu03", "0")
    assert int(found["MASTER_PORT"]) in rendezvous.PORTS
    environment({"SLURM_STEP_NODELIST": "node7", "MASTER_PORT": "29999"})
    assert (rendezvous._environment()["MASTER_ADDR"], rendezvous._environment()["MASTER_PORT"]) == ("node7", "29999")
    environment(TORCHRUN)
    assert (rendezvous.rank(), rendezvous.size(), rendezvous._environment()["MASTER_ADDR"]) == (3, 8, "one")


def test_an_environment_that_says_too_little_is_refused_by_name(environment):
    environment({"WORLD_SIZE": "2", "RANK": "1"})
    with pytest.raises(UserError, match="describes 2 processes, but does not say MASTER_ADDR and MASTER_PORT"):
        rendezvous.Rendezvous("train")


def test_another_number_of_processes_than_were_started_is_refused(environment):
    environment(TORCHRUN)
    with pytest.raises(UserError, match=r"processes=2, but 8 processes were started together"):
        enter_hydra(Command("train", ("processes=2",)))


def test_a_folder_that_another_machine_made_is_waited_for_and_then_refused(tmp_path, monkeypatch):
    assert places.seen(tmp_path) == tmp_path
    monkeypatch.setattr(places, "LATE", 0.0)
    with pytest.raises(UserError, match="cannot be seen on this machine"):
        places.seen(tmp_path / "elsewhere")


LINKED = """
import sys, time
from aloll_cli.runtime import link
link.LIMIT, link.GRACE = 1.5, 0.2
rank, port, ends = sys.argv[1:]
found = link.Link(int(rank), "127.0.0.1", int(port), "train", True)
print(found.port, flush=True)
time.sleep(float(ends))
found.end()
"""


def linked(rank, port=0, ends=60.0):
    """A process with a link, and its port."""
    words = [sys.executable, "-c", LINKED, str(rank), str(port), str(ends)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return process, int(process.stdout.readline())


def links_of(process):
    with open(f"/proc/{process.pid}/task/{process.pid}/children") as children:
        return [int(child) for child in children.read().split()]


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_a_process_that_is_killed_ends_the_others_with_a_cause(killed):
    first, port = linked(0)
    second, _ = linked(1, port)
    time.sleep(0.5)
    dies, other = (first, second) if killed == 0 else (second, first)
    dies.kill()
    _, said = other.communicate(timeout=20)
    assert other.returncode == -signal.SIGKILL
    assert f"aloll train: process {killed} on {os.uname().nodename} was killed; finished work and checkpoints are kept" in said
    dies.communicate()


@pytest.mark.slow
def test_a_process_that_is_silent_ends_the_others_and_one_that_ends_in_order_does_not():
    first, port = linked(0)
    second, _ = linked(1, port, ends=0.5)
    assert second.communicate(timeout=20)[1] == ""
    third, _ = linked(1, port)
    time.sleep(0.5)
    assert first.poll() is None
    (silent,) = links_of(third)
    os.kill(silent, signal.SIGSTOP)  # as silent as a machine without power
    _, said = first.communicate(timeout=20)
    assert "process 1 on " in said
    assert "is not heard of any more: its machine or the network is gone" in said
    for process in (silent, third.pid):
        os.kill(process, signal.SIGKILL)
    third.communicate()


def started(folder, rank, port, *words):
    joined = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    command = [sys.executable, "-c", "from aloll_cli.cli.main import main; main()", *words]
    environment = os.environ | {name: str(value) for name, value in joined.items()}
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def together(folder, *words):
    """Exit codes and what was said of two processes with the same command line."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    both = [started(folder, rank, port, *words) for rank in (0, 1)]
    said = [process.communicate(timeout=250) for process in both]
    return [process.returncode for process in both], said


@pytest.mark.slow
def test_processes_that_were_started_together_run_a_sweep_once(undisturbed, tmp_path):
    shutil.copytree(undisturbed, tmp_path / "outputs")
    words = ["train", *SMALL, "strategy=fsdp", "-m", "seed=1,2", "variant=nll"]
    codes, said = together(tmp_path, *words)
    assert codes == [0, 0], said
    assert said[1] == ("", "")  # the second process says nothing
    assert len([*(tmp_path / "outputs").glob("reviews/policy/nll-s*/manifest.json")]) == 2
    (log,) = tmp_path.glob("outputs/reviews/policy/nll-s2-*/log.txt")
    assert log.read_text().count("building") == 1
    (config,) = tmp_path.glob("outputs/reviews/policy/nll-s2-*/config.yaml")
    assert "processes: 2" in config.read_text()


@pytest.mark.slow
def test_a_mistake_is_said_once_and_ends_all(tmp_path):
    codes, said = together(tmp_path, "train", "optimzer.lr=1")
    assert codes == [2, 2]
    assert "optimizer.lr" in said[0][1]
    assert said[1] == ("", "")
    codes, said = together(tmp_path, "train", *SMALL, "batch_size=1")
    assert codes == [2, 2]
    assert [part[1].count("batch_size=1 is less than processes=2") for part in said] == [1, 0]
    assert json.dumps(said).count("Traceback") == 0


def test_a_stop_that_one_process_was_asked_for_stops_all_with_its_reason():
    def asked(world):
        stopper = Stopper(None)
        if world.rank == 1:
            stopper._note(signal.SIGTERM, None)
        return world.stopped(stopper)

    stops = in_two(asked)
    assert [(stop.code, stop.reason) for stop in stops] == [(143, "SIGTERM")] * 2
    assert in_two(lambda world: world.stopped(Stopper(None))) == [None, None]
