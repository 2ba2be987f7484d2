"""Use from Python: what a script or a notebook calls."""

import os
import subprocess
import sys

import pytest
from make_api import MARK, PAGE, reference
from running import SMALL, quick

import aloll_cli
from aloll_cli import UserError, compose, load_run, run


def test_the_public_names_are_there_and_are_imported_when_they_are_used():
    assert set(aloll_cli.__all__) <= set(dir(aloll_cli))
    check = "import aloll_cli, sys; assert not {'hydra', 'torch', 'numpy'} & set(sys.modules); aloll_cli.compose; print('ok')"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=False)
    assert done.stdout == "ok\n", done.stderr
    with pytest.raises(AttributeError, match="no attribute 'compse'"):
        aloll_cli.compse  # noqa: B018


def test_composed_settings_are_those_of_the_command_line_and_mistakes_are_errors():
    settings = compose("variant=seq", "seed=3", "test_reward=length", "optimizer.lr=1e-4")
    assert (settings.seed, settings.optimizer.lr, type(settings.test_reward).__name__) == (3, 1e-4, "Length")
    with pytest.raises(UserError, match="clp"):
        compose("variant.clp=1")
    with pytest.raises(UserError, match='there is no stage "evalute"'):
        run("evalute", settings)
    with pytest.raises(UserError, match="has not been evaluated"):
        load_run(compose("output_dir=/nowhere"))


LOOP = """
import pandas as pd
from aloll_cli import compose, load_run, run

rows = []
for variant in ("nll", "seq"):
    for seed in (1, 2):
        settings = compose(f"variant={variant}", f"seed={seed}", "verbosity=quiet", *SMALL)
        gain = run("evaluate", settings)
        found = load_run(settings)
        assert found.metrics["gain"]["mean"] == gain
        rows.append({"variant": variant, "seed": seed, "gain": gain, "steps": len(found.updates)})
frame = pd.DataFrame(rows)
print(frame.groupby("variant")["steps"].mean().to_dict(), len(frame))
"""


@pytest.mark.slow
def test_a_loop_over_runs_ends_in_a_frame(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", f"SMALL = {SMALL!r}\n{LOOP}"],
        cwd=tmp_path, env=os.environ | {"HF_HUB_OFFLINE": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "{'nll': 12.0, 'seq': 12.0} 4", done.stderr[-2000:]
    (folder, *_) = sorted((tmp_path / "outputs" / "reviews" / "metrics").glob("seq-s2-*"))
    assert load_run(folder).seed == 2


@pytest.mark.slow
def test_from_python_quiet_prints_no_result(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run("plan", compose())
    assert "to build" in capsys.readouterr().out
    run("plan", compose("verbosity=quiet"))
    assert capsys.readouterr() == ("", "")
    out, err = quick(tmp_path, "plan", "-q")  # the result is the command's output
    assert "to build" in out
    assert err == ""


def test_the_reference_in_the_documentation_is_made_from_the_docstrings():
    assert PAGE.read_text().partition(MARK)[2] == reference().partition(MARK)[2], "python scripts/make_api.py"
