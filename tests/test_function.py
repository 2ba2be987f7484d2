"""A function of the user's own: what it is given, what is said when it fails, and that what was scored stays."""

import os
import re
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from tiny import composed, reviews, some_slow, store

from aloll_cli.artifacts.data import Data
from aloll_cli.artifacts.pipeline import Pipeline
from aloll_cli.artifacts.rewards import ScoredBy, load_rewards
from aloll_cli.errors import UserError
from aloll_cli.rewards.base import COLUMNS, Row
from aloll_cli.rewards.function import Function
from aloll_cli.rewards.scoring import checked_scores

ROWS = [Row(f"test-{i}-0", "0" * 16, f"Prompt {i}", "word " * i, stored=i / 9, turns=[]) for i in range(6)]
CODE = """
import time

def score(rows):
    return [len(row["response"].split()) for row in rows]

def stored(rows):
    return [row["stored"] for row in rows]

def fields(rows):
    assert [sorted(row) for row in rows] == [["id", "prompt", "response", "stored", "turns"]] * len(rows)
    return [float(row["id"] == f"test-{row['prompt'][-1]}-0") for row in rows]

def sizes(rows):
    return [len(rows)] * len(rows)

def helper(rows):
    raise LookupError("no key for " + rows[0]["id"])

def raises(rows):
    return helper(rows) if rows[0]["id"] != "test-0-0" else score(rows)

def hangs(rows):
    while True:
        try:
            time.sleep(9)
        except Exception:
            pass

def nan(rows):
    return [float("nan") if row["id"] == "test-4-0" else 0 for row in rows]

def few(rows):
    return score(rows)[1:]

def many(rows):
    return [[1]] * len(rows)

def nothing(rows):
    pass

def texts(rows):
    return ["good"] * len(rows)

def leaves(rows):
    import sys
    sys.exit(3)

def one(rows):
    return [1]

def lazy(rows):
    return (1 for row in rows)

def complex_ones(rows):
    return [1.0, 2j] * (len(rows) // 2)

def dates(rows):
    import numpy as np
    return np.array(["2020-01-01"] * len(rows), dtype="datetime64[s]")

def durations(rows):
    import numpy as np
    return [np.timedelta64(5, "s"), 1.0] * (len(rows) // 2)

def masked(rows):
    import numpy as np
    return np.ma.masked_array([5.0] * len(rows), mask=[True] * len(rows))

def digits(rows):
    return ["1"] * len(rows)

def decimals(rows):
    from decimal import Decimal
    return [Decimal("0.5"), True, 2] * (len(rows) // 3)

def with_gradient(rows):
    import torch
    return torch.ones(len(rows), requires_grad=True)

def takes_none():
    return []

def talks(rows):
    print("one, two")
    return score(rows)

number = 3
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "my.py"
    path.write_text(CODE)
    return path


def reward(file, function, *options):
    return composed("reward=function", f"reward.path={file}", f"reward.function={function}", "reward.hi=9", *options).reward


def scores(file, function, *options):
    found = reward(file, function, *options)
    return checked_scores(found, found.scorer(None), ROWS).tolist()


def test_a_function_is_given_rows_and_returns_a_number_for_each(file):
    assert scores(file, "score") == [0, 1, 2, 3, 4, 5]
    assert scores(file, "stored") == pytest.approx([i / 9 for i in range(6)])
    assert scores(file, "fields") == [1] * 6
    assert scores(file, "decimals") == [0.5, 1, 2] * 2
    assert scores(file, "sizes", "reward.rows=4") == [4, 4, 4, 4, 2, 2]
    assert scores(file, "score", "reward.timeout=50") == [0, 1, 2, 3, 4, 5]
    assert reward(file, "score", "reward.lo=-inf").range == (-np.inf, 9)


@pytest.mark.parametrize("name", COLUMNS)
def test_a_function_is_not_called_like_another_column_of_the_table_of_rewards(file, name):
    with pytest.raises(UserError, match=rf'a reward cannot be called "{name}".*\nRename the function'):
        reward(file, name)


def test_a_reward_of_the_name_of_another_column_is_refused_whatever_it_is(file):
    class Malformed(Function):
        label = "malformed"

    settings = composed("reward=function", f"reward.path={file}", "reward.function=score")
    found = Malformed(**vars(settings.reward))
    with pytest.raises(UserError, match=r'a reward cannot be called "malformed".*\nRename its file and its class'):
        ScoredBy(found, Data(settings.task))


FAILURES = {
    "helper": (["reward.rows=2"], r"^Traceback .*\n.*my\.py\", line \d+, in helper\n(.*\n)+my\.py: helper raised for rows test-0-0, test-1-0: LookupError: no key for test-0-0\.\nBlocks"),
    "hangs": (["reward.timeout=0.1", "reward.rows=1"], r"my\.py: hangs took more than reward\.timeout=0\.1 seconds for row test-0-0\.\nreward\.timeout=0\.2"),
    "nan": ([], r"reward=function returned nan for example test-4-0\.\nRewards must be finite"),
    "few": ([], r"my\.py: few returned 5 numbers for 6 rows, test-0-0 to test-5-0\.\nExpected 6 numbers\. Blocks scored so far"),
    "many": (["reward.rows=3"], r"my\.py: many returned \[\[1\], \[1\], \[1\]\] for rows test-0-0, test-1-0, test-2-0\."),
    "nothing": ([], r"my\.py: nothing returned None for 6 rows"),
    "texts": ([], r"my\.py: texts returned \['good', .* for 6 rows, .*\.\nExpected a list of 6 numbers\."),
    "number": ([], r"my\.py has no function number\.\nFunctions in the file: score, stored, fields,"),
    "score": (["reward.hi=4"], r"reward=function returned 5\.0 for example test-5-0, outside its range \[0\.0, 4\.0\]\.\n.*reward\.hi"),
    "leaves": ([], r"^Traceback .*\n.*my\.py\", line \d+, in leaves\n(.*\n)+my\.py: leaves raised for 6 rows, test-0-0 to test-5-0: SystemExit: 3\.\n"),
    "one": ([], r"my\.py: one returned 1 number for 6 rows"),
    "lazy": ([], r"my\.py: lazy returned <generator object .* for 6 rows, .*\.\nExpected a list of 6 numbers\."),
    "with_gradient": ([], r"my\.py: with_gradient returned tensor\(.* for 6 rows, .*\.\nExpected a list of 6 numbers\."),
    "complex_ones": ([], r"returned \[1\.0, 2j, .* for 6 rows, .*: values of the type complex128\.\nExpected a list of 6 numbers\."),
    "dates": ([], r"my\.py: dates returned array\(.* for 6 rows, .*: values of the type datetime64\[s\]\.\n"),
    "durations": ([], r"my\.py: durations returned .* for 6 rows, .*: values of the type timedelta64\[s\]\.\n"),
    "masked": ([], r"my\.py: masked returned masked_array\(data.* for 6 rows, .*: a masked array\.\n"),
    "digits": ([], r"my\.py: digits returned \['1', .* for 6 rows, .*: texts\.\n"),
    "takes_none": ([], r"my\.py: takes_none raised for 6 rows, .*: TypeError: takes_none\(\) takes 0 positional arguments"),
}  # fmt: skip


@pytest.mark.parametrize("function", some_slow(FAILURES))
def test_what_is_said_when_a_function_fails(file, function):
    options, message = FAILURES[function]
    with pytest.raises(UserError) as caught:
        scores(file, function, *options)
    assert re.search(message, str(caught.value)), str(caught.value)


RELATIVE = """
import random
from functools import cache

seen = []

def largest(rows):
    lengths = [len(row["response"]) for row in rows]
    return [length / (max(lengths) or 1) for length in lengths]

def ranks(rows):
    lengths = sorted(len(row["response"]) for row in rows)
    return [lengths.index(len(row["response"])) for row in rows]

def scaled(rows):
    lengths = [len(row["response"]) for row in rows]
    return [(length - min(lengths)) / (max(lengths) - min(lengths) or float("nan")) for length in lengths]

def chance(rows):
    return [random.random() for row in rows]

def new(rows):
    found = [float(row["response"] not in seen) for row in rows]
    seen.extend(row["response"] for row in rows)
    return found

def rounded(rows):
    return [len(row["response"]) * (1 + 1e-3 * len(rows)) for row in rows]

@cache
def known(text):
    return len(text) / 7

def cached(rows):
    return [known(row["response"]) for row in rows]

def rounding(rows):
    return [len(row["response"]) * (1 + 1e-7 * len(rows)) for row in rows]

def zero(rows):
    return [0.0] * len(rows)
"""


def test_functions_whose_scores_depend_on_more_than_the_row_are_refused(tmp_path):
    path = tmp_path / "relative.py"
    path.write_text(RELATIVE)

    def doubt(function):
        scorer = replace(base, function=function).scorer(None)
        return scorer.doubt(ROWS, scorer.score(ROWS))

    base = reward(path, "zero")
    for function in ("largest", "ranks", "scaled", "chance", "new"):
        with pytest.raises(
            UserError, match=rf"relative\.py: {function} gives a row a score that depends on more than the row: row"
        ):
            doubt(function)
    # the longest, of 25 characters, has 25 · 1.006 = 25.15 beside five others, and 25 · 1.001 = 25.025 alone
    told = "rounded does not give a row quite the same score again: row test-5-0 has the score 25.15, and 25.025 if scored again alone"
    assert told in doubt("rounded")
    assert [doubt(function) for function in ("cached", "rounding", "zero")] == [None] * 3


def test_what_a_function_prints_does_not_mix_with_results(file, capsys):
    scores(file, "talks")
    assert capsys.readouterr() == ("", "one, two\n")


def test_a_traceback_is_the_users_own(file):
    with pytest.raises(UserError) as caught:
        scores(file, "raises", "reward.rows=2")
    said = str(caught.value)
    assert "for rows test-2-0, test-3-0: LookupError: no key for test-2-0." in said
    assert said.count("  File ") == said.count('my.py", line') == 2
    assert said.splitlines()[-3] == "LookupError: no key for test-2-0"


def test_a_file_that_cannot_be_imported_is_shown_with_its_traceback(file):
    file.write_text("import nosuchmodule\n")
    with pytest.raises(
        UserError,
        match=r"^Traceback (.*\n)+my\.py: cannot be imported: ModuleNotFoundError: .*nosuchmodule.*\nCorrect .* PYTHONPATH",
    ):
        scores(file, "score")
    file.write_text("def score(:\n")
    with pytest.raises(UserError, match=r"my\.py: cannot be imported: SyntaxError: "):
        scores(file, "score")


def test_the_alarm_is_off_again(file):
    scores(file, "score", "reward.timeout=0.3")
    time.sleep(0.4)


@pytest.mark.slow
def test_the_files_content_is_the_recipe_and_its_place_is_not(file, tmp_path):
    def fingerprint(path, *options):
        own = composed.__wrapped__("reward=function", f"reward.path={path}", *options)
        return Pipeline(own).rewards().fingerprint

    copy = tmp_path / "copy.py"
    copy.write_text(CODE)
    assert fingerprint(file) == fingerprint(copy) == fingerprint(copy, "reward.rows=9", "reward.timeout=3")
    copy.write_text(CODE + "# altered")
    assert fingerprint(file) != fingerprint(copy)
    assert fingerprint(file) != fingerprint(file, "reward.function=nan")


@pytest.mark.slow
def test_blocks_before_a_failure_stay_and_are_not_scored_again(tmp_path):
    folder, calls = reviews(tmp_path / "rows", train=300), tmp_path / "calls"
    mine = tmp_path / "mine.py"
    mine.write_text(f"""
from pathlib import Path

def score(rows):
    calls = Path({str(calls)!r})
    calls.open("a").write(rows[0]["id"] + chr(10))
    if rows[0]["id"].startswith("train-256-") and not Path({str(tmp_path / "mended")!r}).exists():
        raise ConnectionError("try later")
    return [0.5] * len(rows)
""")
    line = Pipeline(composed(f"task.path={folder}", "model.vocab_size=400", "reward=function", f"reward.path={mine}"))
    out = store(tmp_path / "out")
    with pytest.raises(UserError, match=r"44 rows, train-256-0 to train-299-0: ConnectionError: try later"):
        out.ensure(line.rewards())
    (tmp_path / "mended").touch()
    made = store(tmp_path / "out").ensure(line.rewards())
    assert load_rewards(made).tolist() == [0.5] * 300
    again = ["train-7-0", "train-0-0", "train-4-0", "train-7-0"]  # the first rows in another order, and three alone
    assert calls.read_text().split() == ["train-0-0", *again, "train-256-0", "train-256-0"]


@pytest.mark.slow
def test_a_function_that_raises_ends_with_exit_code_2(file, tmp_path):
    reviews(tmp_path / "rows")
    command = [
        sys.executable,
        "-c",
        "from aloll_cli.cli.main import main; main()",
        "score-rewards",
        "task.path=rows",
        "threads=1",
    ]
    command += ["reward=function", "reward.path=my.py", "reward.function=helper", "model.vocab_size=400"]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"HF_HUB_OFFLINE": "1"}, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 2, done.stderr
    trace, _, said = done.stderr.partition("aloll score-rewards: ")
    assert said.startswith(
        "my.py: helper raised for 24 rows, train-0-0 to train-23-0: LookupError: no key for train-0-0.\nBlocks"
    )
    assert "Traceback" in trace
    assert "aloll_cli" not in done.stderr
