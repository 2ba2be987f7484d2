"""Experiment trackers: an interrupted and resumed run is one whole curve, no step missing or twice."""

import json
import shutil
import signal
import struct
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
from running import SMALL, quick, run

from aloll_cli.runtime.tracking import Mode, Tensorboard, Tracked, Tracking, Trackio, Wandb

STEPS = [(step, {"metrics/loss": 1.0 / step, "metrics/lr": 0.5}) for step in range(1, 10)]


def tracked(folder: Path, recorded: list) -> Tracked:
    return Tracked("seq-s1-0123456789ab", {"seed": 1}, folder, recorded)


def interrupted(tracking: Tracking, folder: Path) -> list[str]:
    """Nine steps, stopped after the sixth and the eighth, each time with the last checkpoint one step before."""
    warnings: list[str] = []
    done = 0
    for stop in (6, 8, 9):
        send = tracking.start(tracked(folder, STEPS[:done]), warnings.append)
        for step, figures in STEPS[done:stop]:
            send(step, figures)
        done = stop - 1
    return warnings


class Board:
    """The writer of TensorBoard as far as it is used: a file per writer in its folder."""

    made = 0

    def __init__(self, place: str, flush_secs: int) -> None:
        Board.made += 1
        Path(place).mkdir(parents=True, exist_ok=True)
        self.file = Path(place) / f"events.{Board.made}"
        self.file.touch()

    def add_scalar(self, name: str, figure: float, step: int) -> None:
        with self.file.open("a") as stream:
            stream.write(json.dumps([step, name, figure]) + "\n")

    def close(self) -> None:
        pass


def test_tensorboard_has_every_step_once(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", types.SimpleNamespace(SummaryWriter=Board))
    assert interrupted(Tensorboard(), tmp_path) == []
    (events,) = (tmp_path / "tensorboard" / "seq-s1-0123456789ab").iterdir()
    found = [tuple(json.loads(line)) for line in events.read_text().splitlines()]
    assert found == [(step, name, figure) for step, figures in STEPS for name, figure in figures.items()]


def test_trackio_has_every_step_once_and_says_nothing_on_stdout(tmp_path, monkeypatch, capsys):
    data: dict[str, list] = {}

    class Opened:
        def __init__(self, project: str, name: str, config: dict, embed: bool) -> None:
            print("* Trackio project initialized")  # noqa: T201
            self.name, self.project = name, project
            assert name not in data, "a second run of one name"
            data[name] = []

        def log(self, figures: dict, step: int) -> None:
            data[self.name].append((step, figures))

        def finish(self) -> None:
            pass

        def delete(self) -> None:
            del data[self.name]

    made: list[Opened] = []

    def runs(project: str) -> list[Opened]:
        if not made:
            raise ValueError(f"Project '{project}' does not exist")
        return [run for run in made[-1:] if run.name in data]

    def init(**options) -> Opened:
        made.append(Opened(**options))
        return made[-1]

    stub = types.SimpleNamespace(init=init, Api=lambda: types.SimpleNamespace(runs=runs))
    monkeypatch.setitem(sys.modules, "trackio", stub)
    assert interrupted(Trackio(project="aloll"), tmp_path) == []
    assert data == {"seq-s1-0123456789ab": STEPS}
    assert capsys.readouterr().out == ""


def test_a_server_that_stands_further_is_not_sent_what_it_has(tmp_path, monkeypatch):
    server: list = []

    class Opened:
        def __init__(self) -> None:
            self.step = server[-1][0] + 1 if server else 0

        def log(self, figures: dict, step: int) -> None:
            server.append((step, figures))

    stub = types.SimpleNamespace(init=lambda **options: Opened(), Settings=dict)
    monkeypatch.setitem(sys.modules, "wandb", stub)
    assert interrupted(Wandb(project="aloll", mode=Mode.online), tmp_path) == []
    assert server == STEPS


def test_a_tracker_that_is_not_installed_or_fails_is_said_once(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "trackio", None)
    (warning,) = interrupted(Trackio(project="aloll"), tmp_path)[:1]
    assert warning.startswith("the experiment tracker could not be opened, training continues without it: ")
    monkeypatch.setattr(Board, "add_scalar", lambda *_: 1 / 0)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", types.SimpleNamespace(SummaryWriter=Board))
    assert len(interrupted(Tensorboard(), tmp_path)) == 3  # once for each start


def records(file: Path) -> Iterator[bytes]:
    """The records of a ``.wandb`` file: LevelDB's log format, in blocks of 32 KiB, after a header of seven bytes."""
    content, at, parts = file.read_bytes(), 7, []
    while at + 7 <= len(content):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + 7])
        parts.append(content[at + 7 : at + 7 + length])
        at += 7 + length
        if kind in (1, 4):  # all of a record, or the end of it
            yield b"".join(parts)
            parts = []


def history(folder: Path) -> list[tuple[int, dict[str, float]]]:
    """What ``wandb sync`` would send of the only offline run in a folder."""
    from wandb.proto.wandb_internal_pb2 import Record

    rows: list[tuple[int, dict[str, float]]] = []
    (file,) = folder.glob("wandb/offline-run-*/*.wandb")
    for data in records(file):
        record = Record()
        record.ParseFromString(data)
        if record.WhichOneof("record_type") == "history":
            items = {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            rows.append((items.pop("_step"), {key: value for key, value in items.items() if not key.startswith("_")}))
    return rows


@pytest.mark.slow
def test_wandb_offline_is_one_curve_after_three_interruptions(undisturbed, tmp_path):
    options = [*SMALL, "tracking=wandb", "tracking.mode=offline"]
    curves = {}
    for name, dies in {"whole": (), "stopped": (6, 9, 12)}.items():
        place = tmp_path / name
        shutil.copytree(undisturbed, place / "outputs")
        for kind in ("policy", "metrics"):
            shutil.rmtree(place / "outputs" / "reviews" / kind)
        for step in dies:
            quick(place, "train", *options, die_at=rf"/checkpoints/\.update-{step:07d}\.tmp$", code=-signal.SIGKILL)
        out, _ = run(place, "train", *options)  # its end closes the tracker, which a fork does not
        assert "wandb" not in out
        curves[name] = history(place / "outputs" / ".tracking")
        assert {path.name for path in place.iterdir()} == {"outputs"}
    steps = [step for step, _ in curves["whole"]]
    assert steps == list(range(13))
    assert [step for step, _ in curves["stopped"]] == steps
    timed = ("metrics/seconds", "evaluations/seconds")
    plain = [[{k: v for k, v in row.items() if k not in timed} for _, row in curve] for curve in curves.values()]
    assert plain[0] == plain[1]
