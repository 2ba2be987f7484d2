"""Jobs of a sweep in processes of their own: what they are told, how they are watched, and what a cluster is asked for."""

import json
import os
import re
import shlex
import sys
import time
from dataclasses import replace
from signal import SIGINT, SIGTERM

import pytest
from hydra.core.config_store import ConfigStore
from running import SMALL, run
from slurm import missing
from slurm_sweep import main, results

from aloll_cli.cli import slurm, watching
from aloll_cli.cli.composition import composing, settings_of
from aloll_cli.cli.launchers import options_of
from aloll_cli.cli.queued import LOG, ORDER, OUTCOME, SETTINGS, Order, _requeue, _requeued, last_line, outcome_of
from aloll_cli.cli.side_by_side import SideBySide
from aloll_cli.cli.slurm import Cluster, check_cluster, check_fits
from aloll_cli.cli.validation import resolved
from aloll_cli.cli.watching import Phase, Queue, Status, watch
from aloll_cli.command import Command
from aloll_cli.errors import UserError
from aloll_cli.settings.launchers import Joblib, SubmititSlurm
from aloll_cli.settings.plugins import settings_from_text
from aloll_cli.stopping import DEADLINE, Interrupted, Stopper

SECRET = "planted/secret/planted"


@pytest.fixture(scope="module")
def settings():
    return settings_of(["threads=1"])


def composed(*words, config_dir=None):
    composer, typed = composing("train", "config", config_dir, words)
    return options_of(composer.config(composer.parsed(typed, multirun=True), multirun=True))


def orders(root, settings, count=2):
    command = Command("train", ("-m", "seed=1,2"))
    return [Order(root / str(i), command, f"seed={i}", settings) for i in range(count)]


def end(order, **said):
    order.folder.mkdir(parents=True, exist_ok=True)
    outcome = {"ended": "done", "value": None, "error": None, "stopped": "", "requeued": 0} | said
    (order.folder / OUTCOME).write_text(json.dumps(outcome))


@pytest.mark.slow
def test_presets_compose_to_what_their_files_say_and_so_does_one_of_ones_own(tmp_path):
    assert composed("hydra/launcher=joblib") == Joblib(n_jobs=2, gpus=[])
    cluster = composed("hydra/launcher=submitit_slurm")
    assert (cluster.timeout_min, cluster.gpus_per_node, cluster.partition) == (240, 1, None)
    assert composed() is None
    (tmp_path / "hydra" / "launcher").mkdir(parents=True)
    mine = "defaults: [submitit_slurm]\npartition: gpu\nsetup: [module load cuda]\n"
    (tmp_path / "hydra" / "launcher" / "lab.yaml").write_text(mine)
    own = composed("hydra/launcher=lab", "hydra.launcher.mem_gb=8", config_dir=str(tmp_path))
    assert own == replace(cluster, partition="gpu", setup=["module load cuda"], mem_gb=8.0)


def test_launchers_of_the_same_name_in_other_packages_step_back():
    theirs = {"_target_": "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher", "n_jobs": -1, "backend": None}
    ConfigStore.instance().store(group="hydra/launcher", name="joblib", node=theirs)
    assert composed("hydra/launcher=joblib", "hydra.launcher.n_jobs=3") == Joblib(n_jobs=3, gpus=[])


def test_a_job_is_told_its_settings_and_reads_secrets_from_its_own_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("PLANTED", SECRET)
    settings = settings_of(["reward=http", "reward.revision=1", "reward.url='http://127.0.0.1:9/${oc.env:PLANTED}'", "seed=7"])
    assert settings.reward.url.endswith(SECRET)
    order = Order(tmp_path / "0", Command("train", ("-m", "seed=7,8")), "seed=7", settings, requeues=3)
    order.write()
    assert SECRET not in "".join(file.read_text() for file in order.folder.iterdir())
    text = (order.folder / SETTINGS).read_text()
    assert settings_from_text(text, resolved) == settings
    told = json.loads((order.folder / ORDER).read_text())
    assert told == {"stage": "train", "arguments": ["-m", "seed=7,8"], "threads": 1, "seconds": None, "requeues": 3}
    monkeypatch.delenv("PLANTED")
    with pytest.raises(UserError, match=r"the environment variable PLANTED is not set\.\nExport it where the job runs"):
        settings_from_text(text, resolved)


def test_an_outcome_is_there_once_a_job_has_ended_and_not_while_it_is_requeued(tmp_path, settings):
    (order,) = orders(tmp_path, settings, 1)
    assert outcome_of(order.folder) is None
    end(order, ended=None, requeued=2)
    assert outcome_of(order.folder) is None
    end(order, ended="failed", error=["what", "hint"], requeued=2)
    outcome = outcome_of(order.folder)
    assert (outcome.failed, outcome.error.args, outcome.requeued) == (True, ("what", "hint"), 2)
    end(order, value=0.25)
    assert outcome_of(order.folder).value == 0.25
    (order.folder / LOG).write_text("building  policy/x\n  step 3\n\n")
    assert last_line(order.folder) == "step 3"


class Played(Queue):
    """A queue that plays what it is given, a look after the other."""

    grace = 0.0

    def __init__(self, looks, at=None):
        self.looks, self.at = list(looks), at or {}
        self.seen = 0

    def look(self):
        self.at.get(self.seen, lambda: None)()
        found = self.looks[min(self.seen, len(self.looks) - 1)]
        self.seen += 1
        return found

    def react(self, received):
        assert received == []

    def lost(self, status):
        return UserError(f"lost: {status.detail}.", "hint")


def test_the_terminal_says_what_becomes_of_each_job_and_which_failed_at_once(tmp_path, settings, monkeypatch, capsys):
    monkeypatch.setattr(watching, "POLL", 0.0)
    monkeypatch.setattr(watching, "LINE_EVERY", 0.0)
    first, second, third = orders(tmp_path, settings, 3)
    waiting, running = Status(Phase.waiting, "Resources"), Status(Phase.running, "node7")
    gone, lost = Status(Phase.gone, "COMPLETED"), Status(Phase.gone, "OUT_OF_MEMORY")

    def log():
        first.folder.mkdir(parents=True)
        (first.folder / LOG).write_text("  policy 120/400  2.5/s\n")

    looks = [
        [waiting] * 3, [running, running, waiting], [running, waiting, running],
        [gone, running, lost], [gone, gone, lost], [gone, gone, lost],
    ]  # fmt: skip
    acts = {1: log, 3: lambda: end(first, ended="failed", error=["no such file.", "hint"]), 4: lambda: end(second, value=1.0)}
    outcomes = watch(Played(looks, acts), [first, second, third])
    assert [(outcome.failed, outcome.value) for outcome in outcomes] == [(True, None), (False, 1.0), (True, None)]
    said = capsys.readouterr().err
    in_order = [
        "started   seed=0 on node7", "2 running, 1 waiting (Resources)", "  seed=0: policy 120/400  2.5/s",
        "requeued  seed=1; it goes on from its last checkpoint", "aloll train (seed=0): no such file.\nhint\n",
        "1 of 3 jobs ended, 1 failed", "done      seed=1", "aloll train (seed=2): lost: OUT_OF_MEMORY.",
    ]  # fmt: skip
    places = [said.index(words) for words in in_order[:-1]]
    assert places == sorted(places)
    assert in_order[-1] in said


def test_a_quiet_sweep_says_failures_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(watching, "POLL", 0.0)
    first, second = orders(tmp_path, settings_of(["verbosity=quiet"]))
    end(first)
    end(second, ended="failed", error=["no such file.", "hint"])
    watch(Played([[Status(Phase.gone)] * 2]), [first, second])
    assert capsys.readouterr().err.startswith("aloll train (seed=1): no such file.\nhint\n")


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """SLURM's commands as scripts that write down what they are asked; squeue answers with a file."""
    folder = tmp_path / "bin"
    folder.mkdir()
    scripts = {
        "sbatch": f"cp $1 {tmp_path}/script; echo Submitted batch job 7", "srun": "true", "scontrol": "true",
        "squeue": f"cat {tmp_path}/rows", "scancel": f"echo $@ >> {tmp_path}/cancelled",
    }  # fmt: skip
    for name, script in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    (tmp_path / "rows").write_text("")
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr(slurm, "OFTEN", 0.0)
    return tmp_path


OPTIONS = SubmititSlurm(
    timeout_min=10, stop_before_s=60, max_num_timeout=5, cpus_per_task=4, mem_gb=1.5, gpus_per_node=1, array_parallelism=1,
    partition="gpu", account=None, qos=None, constraint="a100", setup=["module load cuda"],
    additional_parameters={"mail_type": "END"},
)  # fmt: skip


def test_an_array_is_asked_for_with_the_options_and_its_states_are_read(commands, settings, capsys):
    found = orders(commands / "jobs", settings)
    cluster = Cluster(commands / "jobs", found, OPTIONS)
    script = (commands / "script").read_text()
    asked = dict(re.findall(r"^#SBATCH --([\w-]+)(?:=(.*))?$", script, re.MULTILINE))
    wanted = {
        "array": "0-1%1", "time": "10", "cpus-per-task": "4", "mem": "1536MB", "gpus-per-node": "1", "partition": "gpu",
        "constraint": "a100", "requeue": "", "mail-type": "END", "job-name": "aloll-train", "signal": "CONT@1",
    }  # fmt: skip
    assert {name: asked.get(name) for name in wanted} == wanted
    assert not {"account", "qos"} & set(asked)
    assert script.index("module load cuda") < script.index("srun")
    assert f"{shlex.quote(sys.executable)} -P -u -m submitit" in script

    def told(rows):
        (commands / "rows").write_text(rows)
        asked = cluster._asked
        while cluster._asked == asked or cluster._question is not None:
            found = cluster.look()
            time.sleep(0.01)
        return found

    assert told("7_0|RUNNING|None|node7\n7_1|PENDING|Resources|\n") == [
        Status(Phase.running, "node7"), Status(Phase.waiting, "Resources")
    ]  # fmt: skip
    lost, ending = told("7_0|OUT_OF_MEMORY|None|node7\n7_1|COMPLETING|None|node8\n")
    assert told("")[1] == Status(Phase.gone, "UNKNOWN")
    assert (lost, ending.phase) == (Status(Phase.gone, "OUT_OF_MEMORY"), Phase.running)
    assert "OUT_OF_MEMORY; finished work and checkpoints are kept.\nRaise hydra.launcher.mem_gb" in str(cluster.lost(lost))
    assert capsys.readouterr() == ("", "")


def test_a_first_ctrl_c_leaves_the_jobs_and_says_how_to_cancel_them_and_a_second_cancels(commands, settings, monkeypatch, capsys):
    cluster = Cluster(commands / "jobs", orders(commands / "jobs", settings), OPTIONS)
    cluster.react([])
    cluster.react([SIGINT])
    assert "a second Ctrl-C within 10 seconds cancels the jobs (scancel 7); else they go on" in capsys.readouterr().err
    later = time.monotonic() + 11
    with monkeypatch.context() as at:
        at.setattr(time, "monotonic", lambda: later)
        with pytest.raises(Interrupted) as left:
            cluster.react([SIGINT])
    assert left.value.code == 130
    assert "squeue -j 7 shows them, scancel 7 cancels them" in capsys.readouterr().err
    with pytest.raises(Interrupted):
        cluster.react([SIGTERM])
    assert not (commands / "cancelled").exists()
    with pytest.raises(Interrupted):
        cluster.react([SIGINT, SIGINT])
    assert (commands / "cancelled").read_text() == "7\n"


def test_what_a_cluster_refuses_is_said_and_nothing_of_submitit(commands, settings, capsys):
    (commands / "bin" / "sbatch").write_text("#!/bin/sh\necho sbatch: error: invalid partition specified: gpu >&2; exit 1\n")
    with pytest.raises(UserError, match=r"SLURM refuses the jobs: invalid partition specified: gpu\.\nsinfo shows"):
        Cluster(commands / "jobs", orders(commands / "jobs", settings), OPTIONS)
    assert capsys.readouterr() == ("", "")


def test_a_machine_without_slurm_is_said_before_anything_is_sent(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"there is no sbatch on this machine.*\nOn this machine alone: hydra/launcher=joblib"):
        check_cluster()


def test_a_job_stops_before_its_limit_unless_the_user_ends_it_earlier_and_has_the_threads_of_its_cores(tmp_path, settings):
    def told(**more):
        order = Order(tmp_path / "job", Command("train"), "", replace(settings, **more))
        slurm._write(order, OPTIONS)
        assert settings_from_text((order.folder / SETTINGS).read_text()) == order.settings  # which are recorded
        found = json.loads((order.folder / ORDER).read_text())
        return found["seconds"], found["requeues"], found["threads"]

    assert told() == (540, 5, 4)  # 10 minutes less 60 seconds
    assert told(max_hours=0.1) == (None, None, 4)
    assert told(max_hours=2.0, processes=2) == (540, 5, 2)


def test_the_end_that_a_queue_sets_asks_to_stop_and_the_earlier_one_counts(monkeypatch):
    monkeypatch.setenv(DEADLINE, str(time.time() + 100))
    assert not Stopper(None).requested
    monkeypatch.setenv(DEADLINE, str(time.time() - 1))
    assert Stopper(None).requested
    assert Stopper(1000.0).requested
    assert Stopper(1000.0).interruption().code == 0


def test_a_job_at_its_limit_goes_back_into_the_queue_as_often_as_it_may(commands, monkeypatch, capsys):
    place = commands / "job"
    place.mkdir()
    (commands / "bin" / "scontrol").write_text(f"#!/bin/sh\necho $@ >> {commands}/requeued\n")
    monkeypatch.setenv("SLURM_JOB_ID", "9")
    for task, before in (("", 0), ("3", 1)):
        if task:
            monkeypatch.setenv("SLURM_ARRAY_TASK_ID", task)
            monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")
        assert _requeued(place) == before
        with pytest.raises(SystemExit) as end:
            _requeue(place, before, most=2)
        assert end.value.code == 75
    assert (commands / "requeued").read_text() == "requeue 9\nrequeue 7_3\n"
    assert outcome_of(place) is None
    assert _requeue(place, _requeued(place), most=2)["error"][0].startswith("the job has reached its time limit 3 times")
    (commands / "bin" / "scontrol").write_text("#!/bin/sh\necho Requested operation is disabled >&2; exit 1\n")
    assert _requeue(place, 0, most=2)["error"][0].endswith(
        "does not take it back into the queue: Requested operation is disabled"
    )
    assert "job 7_3 goes back into the queue, and goes on from its checkpoint" in capsys.readouterr().err


def test_processes_of_a_job_need_a_gpu_and_a_core_each(tmp_path, settings):
    (order,) = orders(tmp_path, replace(settings, processes=2), 1)
    with pytest.raises(UserError, match=r"processes=2 share 1 GPU per job\.\nhydra\.launcher\.gpus_per_node=2"):
        check_fits(order, OPTIONS)
    check_fits(order, replace(OPTIONS, gpus_per_node=None))
    with pytest.raises(UserError, match="processes=2 share 1 CPU core"):
        check_fits(order, replace(OPTIONS, gpus_per_node=None, cpus_per_task=1))


def test_jobs_side_by_side_have_a_gpu_each_and_no_more_run_than_there_are(tmp_path, settings, monkeypatch):
    script = tmp_path / "python"  # -P -m aloll_cli.cli.queued FOLDER
    outcome = '{"ended": "done", "value": null, "error": null, "stopped": "", "requeued": 0}'
    script.write_text(f"#!/bin/sh\necho $CUDA_VISIBLE_DEVICES > $4/gpu\nsleep 0.3\necho '{outcome}' > $4/{OUTCOME}\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    monkeypatch.setattr(watching, "POLL", 0.01)
    found = orders(tmp_path / "jobs", settings, 4)
    began = time.monotonic()
    outcomes = watch(SideBySide(found, Joblib(n_jobs=2, gpus=[3, 5])), found)
    assert not any(outcome.failed for outcome in outcomes)
    assert time.monotonic() - began > 0.6
    assert sorted((order.folder / "gpu").read_text() for order in found) == ["3\n", "3\n", "5\n", "5\n"]
    (lost,) = orders(tmp_path / "lost", settings, 1)
    script.write_text("#!/bin/sh\nkill -9 $$\n")
    (outcome,) = watch(SideBySide([lost], Joblib(n_jobs=1, gpus=[])), [lost])
    assert outcome.error.args[0] == "the job was ended by SIGKILL; finished work and checkpoints are kept."


@pytest.mark.slow
def test_a_sweep_of_two_jobs_at_a_time_equals_one_after_the_other(tmp_path):
    words = ["run", "-m", *SMALL, "variant=nll,seq"]
    said = {}
    for name, launcher in (("alone", []), ("joblib", ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"])):
        (tmp_path / name).mkdir()
        said[name], log = run(tmp_path / name, *words, *launcher)
    assert said["joblib"] == said["alone"]
    assert results(tmp_path / "joblib" / "outputs") == results(tmp_path / "alone" / "outputs")
    assert re.findall(r"^(?:started|done) +(variant=\w+)", log, re.MULTILINE).count("variant=seq") == 2
    assert [*tmp_path.glob("joblib/outputs/.sweeps/*/jobs-*")] == []


@pytest.mark.slow
def test_a_job_of_a_launcher_that_fails_is_said_at_once_with_its_log_and_the_others_run(tmp_path):
    (tmp_path / "good.jsonl").write_text("".join(json.dumps({"prompt": f"p{i}", "response": "b"}) + "\n" for i in range(40)))
    (tmp_path / "bad.jsonl").write_text('{"prompt": 1}\n')
    words = ["inspect", "-m", "task=local", "task.path=bad.jsonl,good.jsonl", "hydra/launcher=joblib", *SMALL]
    out, said = run(tmp_path, *words, code=2)
    assert re.search(r"aloll inspect \(task\.path=bad\.jsonl.*\): bad\.jsonl, line 1", said)
    assert re.search(r"^Its log: outputs/\.sweeps/\S+/0/log\.txt$", said, re.MULTILINE)
    assert "1 of 2 jobs failed, for the reasons above: task.path=bad.jsonl" in said
    assert "train" in out


@pytest.mark.slow
@pytest.mark.skipif(bool(missing()), reason=f"no SLURM on this machine: {missing()}")
def test_a_sweep_on_a_real_slurm_equals_one_in_one_process_although_jobs_are_preempted_and_exceed_their_time(capfd):
    code = main([])
    assert code == 0, capfd.readouterr().out[-5000:]
