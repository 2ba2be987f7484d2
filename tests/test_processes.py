"""Processes end when they are told to, or when their parent ends, and say why; a job of a sweep fails by itself."""

import errno
import fcntl
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from running import SMALL, fork, quick
from tiny import some_slow

from aloll_cli.cli.launching import _killed
from aloll_cli.command import Command
from aloll_cli.errors import UserError
from aloll_cli.files import of_the_machine
from aloll_cli.stopping import Interrupted, Stopper, interruptible, noted
from aloll_cli.store.locks import ArtifactLock, alone_in

WATCHED = """
import os, re, signal, sys, time
from aloll_cli import watchdog
from aloll_cli.stopping import Stopper
watchdog.LIMIT = {limit}
with watchdog.watched("aloll train:"), Stopper(None) as stopper:
    print("ready", flush=True)
    {work}
print("ended by itself", flush=True)
"""
DEAF = {  # what is being done when SIGTERM comes
    "a library that holds the interpreter": "re.match(r'(a*)*b', 'a' * 40)",
    "a loop that asks for nothing": "\n    while True: time.sleep(0.01)",
    "a process that it started": "\n    import subprocess; subprocess.run(['sleep', '60'])",  # it holds the pipe of what is said
    "an exception that is swallowed": "\n    while True:\n        try: time.sleep(1)\n        except BaseException: pass",
}


def ended(work: str, limit: float = 0.5, number: signal.Signals | None = signal.SIGTERM) -> tuple[int, float, str]:
    """The exit code, the seconds from the signal to the end, and what was said; None: no signal comes."""
    command = [sys.executable, "-c", WATCHED.format(limit=limit, work=work)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout.readline() == "ready\n"
    if number is not None:
        time.sleep(0.1)
        process.send_signal(number)
    start = time.monotonic()
    said, _ = process.communicate(timeout=20)
    return process.returncode, time.monotonic() - start, said


@pytest.mark.parametrize("work", some_slow(DEAF.values()), ids=DEAF)
def test_sigterm_ends_whatever_runs(work):
    code, seconds, said = ended(work)
    assert code == -signal.SIGKILL
    assert seconds < 3
    assert "aloll train: did not stop in time and was ended; finished work is kept" in said


def test_sighup_ends_a_process_that_asks_for_nothing_too():
    code, seconds, _ = ended(DEAF["a loop that asks for nothing"], number=signal.SIGHUP)
    assert code == -signal.SIGKILL
    assert seconds < 3


@pytest.mark.slow
def test_a_process_that_stops_in_time_is_left_alone_and_a_checkpoint_is_written_to_its_end():
    for work, limit in (
        ("\n    while not stopper.requested: time.sleep(0.01)", 5),
        ("\n    with watchdog.patient():\n        time.sleep(0.3)\n        time.sleep(0.7)", 0.2),
    ):
        code, _, said = ended(work, limit)
        assert (code, said.splitlines()[-1]) == (0, "ended by itself")


def test_a_fork_that_lives_on_does_not_hold_up_the_end():
    work = "\n    if not os.fork():\n        os.close(1); os.close(2); time.sleep(8); os._exit(0)"
    code, seconds, said = ended(work, number=None)
    assert (code, said) == (0, "ended by itself\n")
    assert seconds < 4


def test_a_child_ends_with_its_parent_by_whatever_signal():
    child = "import time; from aloll_cli.watchdog import end_with_parent; end_with_parent(); print('ready', flush=True)"
    command = [sys.executable, "-c", f"{child}; time.sleep(60)"]
    start = f"child = subprocess.Popen({command!r}); print(child.pid, flush=True); time.sleep(60)"
    parent = f"import os, subprocess, sys, time; os.environ['ALOLL_PARENT'] = str(os.getpid()); {start}"
    for number in (signal.SIGKILL, signal.SIGHUP):
        process = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True)
        pid = int(process.stdout.readline())
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        process.wait()
        end = time.monotonic() + 5
        while is_alive(pid):
            assert time.monotonic() < end
            time.sleep(0.02)


def test_sigterm_several_times_at_once_stops_once_and_lets_the_process_tidy_up():
    code = """if True:
        import sys, time
        from aloll_cli.stopping import Interrupted, interruptible
        from aloll_cli.watchdog import watched
        try:
            with watched("aloll train:"), interruptible():
                try:
                    print("ready", flush=True)
                    time.sleep(60)
                finally:
                    time.sleep(0.2)
                    print("tidied up")
        except Interrupted as stop:
            time.sleep(0.2)
            print("said")
            sys.exit(stop.code)
    """
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    for _ in range(30):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.01)
    assert process.communicate() == ("tidied up\nsaid\n", "")
    assert process.returncode == 128 + signal.SIGTERM


@pytest.mark.slow
def test_a_command_of_several_processes_that_is_killed_leaves_no_file_outside_of_its_outputs(tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    process = fork(tmp_path, "train", *SMALL, "processes=2", before=f"import tempfile; tempfile.tempdir = {str(scratch)!r}")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    end = time.monotonic() + 60
    while not (workers := children.read_text().split()[1:]):  # the first is the watchdog
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    while any(is_alive(int(pid)) for pid in workers):
        assert time.monotonic() < end
        time.sleep(0.02)
    assert [*scratch.iterdir()] == []


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_parent_of_many_threads_is_one_request_to_stop_and_a_later_signal_another(monkeypatch):
    child = """if True:
        import time
        from aloll_cli.stopping import Stopper
        from aloll_cli.watchdog import end_with_parent
        with Stopper(None) as stopper:
            end_with_parent()
            print("ready", flush=True)
            while not stopper.requested:
                time.sleep(0.001)
            time.sleep(0.5)  # Linux sends one signal for each thread of the parent
            print("stopped in order", flush=True)
    """
    parent = f"""if True:
        import subprocess, sys, threading, time
        for _ in range(20):
            threading.Thread(target=time.sleep, args=(100,), daemon=True).start()
        subprocess.Popen([sys.executable, "-c", {child!r}])
        time.sleep(100)
    """
    process = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout.readline() == "ready\n"
    process.kill()
    assert process.stdout.readline() == "stopped in order\n"
    process.wait()
    with Stopper(None) as stopper:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stopper.requested
        later = time.monotonic() + 1.1
        monkeypatch.setattr(time, "monotonic", lambda: later)
        with pytest.raises(Interrupted):
            os.kill(os.getpid(), signal.SIGTERM)
    with Stopper(None) as stopper:
        os.kill(os.getpid(), signal.SIGINT)
        assert stopper.requested
        with pytest.raises(Interrupted):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_lost_terminal_asks_to_stop_like_sigterm_and_counts_once_with_it(monkeypatch):
    monkeypatch.setattr("aloll_cli.stopping._counted", float("-inf"))
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        with interruptible(), Stopper(None) as stopper:
            for number in (signal.SIGHUP, signal.SIGHUP, signal.SIGTERM):  # of the terminal, of the shell, of a service manager
                os.kill(os.getpid(), number)
            with pytest.raises(Interrupted) as stop:
                stopper.check()
        assert (stop.value.code, stop.value.reason) == (129, "SIGHUP")
        with noted() as received:
            os.kill(os.getpid(), signal.SIGHUP)
        assert received == [signal.SIGHUP]
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)


def test_sighup_stays_ignored_where_it_is_as_under_nohup():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruptible(), noted() as received, Stopper(None) as stopper:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stopper.requested
            assert received == []
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_process_whose_terminal_has_gone_writes_nowhere_and_ends_in_order(tmp_path):
    code = f"""if True:
        import sys, time
        from pathlib import Path
        from aloll_cli.runtime.terminal import Log, results
        from aloll_cli.stopping import Stopper, interruptible
        with interruptible(), Stopper(None) as stopper, Log().progress("train", 10) as meter:
            print("ready", flush=True)
            while not stopper.requested:
                meter.advance()
                time.sleep(0.01)
        results.print("results")
        sys.stderr.write("Continue with\\n")
        Path({str(tmp_path / "ended")!r}).write_text("in order")
    """
    pid, terminal = pty.fork()
    if not pid:
        os.execv(sys.executable, [sys.executable, "-c", code])
    said = b""
    while b"ready" not in said:
        said += os.read(terminal, 1000)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert (tmp_path / "ended").read_text() == "in order"


@pytest.mark.slow
def test_workers_whose_parent_is_killed_write_a_checkpoint_and_end(undisturbed, tmp_path):
    shutil.copytree(undisturbed, tmp_path / "outputs")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    words = [*SMALL, "updates=5000", "eval_every=5000", "checkpoint_every=3", "processes=2", "seed=8"]
    command = [sys.executable, "-c", "from aloll_cli.cli.main import main; main()", "train", *words]
    environment = os.environ | {"TMPDIR": str(scratch)}
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL, env=environment)
    while not [*tmp_path.glob("outputs/reviews/policy/seq-s8-*.partial/checkpoints/update-*")]:
        assert process.poll() is None
        time.sleep(0.05)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.kill()
    process.wait()
    end = time.monotonic() + 15
    while any(is_alive(int(pid)) for pid in children):
        assert time.monotonic() < end
        time.sleep(0.1)
    (records,) = tmp_path.glob("outputs/reviews/policy/seq-s8-*.partial/metrics.jsonl")
    steps = len(records.read_text().splitlines())
    assert [*records.parent.glob(f"checkpoints/update-{steps:07d}")]
    assert [*scratch.glob("aloll-*")] == []


def test_a_worker_that_was_killed_is_said_with_its_signal_and_how_to_go_on():
    class Ended:
        def __init__(self, code: int) -> None:
            self.returncode = code

    said = str(_killed(signal.SIGKILL, [Ended(1), Ended(-9)], Command("train", ("processes=2",))))
    assert said.startswith(
        "process 1 of 2 was ended by SIGKILL; finished work and checkpoints are kept.\nMost likely memory ran out"
    )
    assert said.endswith("Continue with: aloll train processes=2")
    assert "A library crashed. Continue" in str(_killed(signal.SIGSEGV, [Ended(-11)], Command("run", ())))


@pytest.mark.slow
def test_a_job_that_fails_is_said_at_once_and_the_others_run(tmp_path):
    (tmp_path / "good.jsonl").write_text("".join(json.dumps({"prompt": f"p{i}", "response": "b"}) + "\n" for i in range(40)))
    (tmp_path / "bad.jsonl").write_text('{"prompt": 1}\n')
    words = ["inspect", "-m", "task=local", "task.path=bad.jsonl,nowhere.jsonl,good.jsonl", "output_dir=made", *SMALL]
    out, said = quick(tmp_path, *words, code=2)
    assert re.search(r"aloll inspect \(\S* ?.*task\.path=bad\.jsonl.*\): bad\.jsonl, line 1", said)
    assert said.index("nowhere.jsonl") < said.index("2 of 3 jobs failed, for the reasons above: ")
    last = said.strip().splitlines()[-2]
    assert "task.path=bad.jsonl" in last
    assert "task.path=nowhere.jsonl" in last
    assert "good.jsonl" not in last
    assert "train" in out  # the last job ran
    assert {path.name for path in tmp_path.iterdir()} == {"good.jsonl", "bad.jsonl", "made"}


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP])
def test_a_file_system_without_locks_is_named_for_what_it_is(tmp_path, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    lock = ArtifactLock(tmp_path, "kind/name")
    monkeypatch.setattr(fcntl, "flock", refuse)
    name = errno.errorcode[number]
    with pytest.raises(UserError, match=rf"is on a file system that cannot lock files: .* \({name}\)\.\nSet output_dir"):
        lock.try_acquire()
    with pytest.raises(UserError, match=name), alone_in(tmp_path):
        pass
    (tmp_path / ".locks" / "kind-name.holder").write_text("process 7 on elsewhere")
    assert lock.holder().startswith("process 7 on elsewhere (this file system keeps the lock of a process that was killed; ")
    assert f"rm {tmp_path}/.locks/kind-name.lock" in lock.holder()


def test_memory_that_ran_out_is_said_with_the_options_to_lower(tmp_path):
    for error, where in (
        (MemoryError(), "the machine"), (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "the GPU"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9"), "the machine"),
    ):  # fmt: skip
        said = str(of_the_machine(error, tmp_path))
        assert said.startswith(
            f"{where} ran out of memory; finished work and the last checkpoint are kept.\nLower micro_batch_size"
        )
    assert of_the_machine(RuntimeError("size mismatch"), tmp_path) is None


def test_a_terminal_without_unicode_is_written_to_in_escapes(tmp_path):
    command = [sys.executable, "-c", "from aloll_cli.cli.main import main; main()", "--help"]
    found = subprocess.run(command, capture_output=True, env=os.environ | {"PYTHONIOENCODING": "ascii"}, cwd=tmp_path, check=True)
    assert b"aloll STAGE [GROUP=CHOICE]" in found.stdout
    assert found.stderr == b""


@pytest.mark.slow
def test_a_user_that_does_not_exist_and_a_folder_that_was_deleted_are_said_in_two_lines(tmp_path):
    for word in ("output_dir=~nosuchuser/x", "task.path=~nosuchuser/x", "model.path=~nosuchuser/x", "plugins=[~nosuchuser/x]"):
        words = ["plan", "task=local"] if "task" in word else ["plan", "model=pretrained"] if "model" in word else ["plan"]
        _, said = quick(tmp_path, *words, word, code=2)
        assert "Traceback" not in said
        assert "nosuchuser" in said
    gone = tmp_path / "gone"
    gone.mkdir()
    code = f"import os; os.chdir({str(gone)!r}); os.rmdir({str(gone)!r}); from aloll_cli.cli.main import main; main()"
    found = subprocess.run([sys.executable, "-c", code, "ls"], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stderr) == (
        2, "aloll ls: the current folder does not exist any more.\nChange to another folder: cd FOLDER\n",
    )  # fmt: skip
