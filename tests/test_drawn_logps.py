"""Reference log-probs are computed for the responses that a run draws alone; what else was built makes no difference."""

import numpy as np
import pytest
from tiny import composed, job, open_model, opened, outspoken, some_slow, tokenizer, write_rows

from aloll_cli.artifacts.pipeline import Pipeline
from aloll_cli.artifacts.reference_logps import LogpTable

PROMPTS = 60
WORDS = ["good", "bad", "happy", "sad", "great", "awful", "kind", "cruel", "lovely", "ugly"]


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    """A random model, and two responses to each of 60 training prompts; half of them have a positive advantage."""
    folder = tmp_path_factory.mktemp("drawn")
    outspoken(folder / "model")
    for split, count in (("train", PROMPTS), ("validation", 4), ("test", 4)):
        rows = [
            {
                "prompt": f"{split} {i}",
                "response": " ".join(WORDS[(i + 3 * k + n) % 10] for n in range(2 + k)),
                "reward": float(k),
            }
            for i in range(count)
            for k in (0, 1)
        ]
        write_rows(folder / "rows" / f"{split}.jsonl", rows)
    return (
        "task=local", f"task.path={folder / 'rows'}", "task.responses=all", "reward=column", "values=constant",
        "values.value=0.4", "model=pretrained", f"model.path={folder / 'model'}", "reference=pretrained", "batch_size=4",
        "updates=3",
    )  # fmt: skip


def built(options, out, *overrides):
    """The line and the table of what the run draws."""
    settings = composed(*options, *overrides)
    line = Pipeline(settings)
    return line, LogpTable(opened(out, settings.runtime).ensure(line.reference_logps))


def tables(out):
    """How many tables of log-probs there are."""
    return len(list(out.glob("reference-logps/*")))


@pytest.mark.slow
@pytest.mark.parametrize("variant", some_slow(["seq", "topr", "dpo"]))
def test_the_rows_are_those_that_training_draws(options, tmp_path, variant):
    line, table = built(options, tmp_path, f"variant={variant}")
    model = open_model(line.settings.model.path)
    source = line.training_data.open(job(tmp_path), line.training.draws, tokenizer(), model)
    drawn = {int(row) for step in range(3) for unit in source.units(step) for row in unit}
    assert table.rows.tolist() == sorted(drawn)
    assert 4 <= len(drawn) <= 24
    assert all(source.rows.behaviour.row(row).shape == (int(source.rows.response_lengths(np.array([row]))[0]),) for row in drawn)
    with pytest.raises(KeyError):
        table.row(min(set(range(2 * PROMPTS)) - drawn))


@pytest.mark.slow
def test_a_run_that_draws_more_than_half_takes_them_from_a_table_of_all(options, tmp_path):
    line, table = built(options, tmp_path, "sampling=all", "updates=200")
    every = LogpTable(opened(tmp_path, line.settings.runtime).path(line.every_reference_logps))
    assert every.rows.tolist() == list(range(2 * PROMPTS))
    assert len(table.rows) > PROMPTS
    for row in table.rows:
        np.testing.assert_array_equal(table.row(row), every.row(row))
    assert tables(tmp_path) == 2
    built(options, tmp_path, "sampling=all", "updates=200", "seed=2")
    assert tables(tmp_path) == 3


@pytest.mark.slow
def test_a_run_that_draws_less_computes_its_own_whatever_is_there(options, tmp_path):
    _, alone = built(options, tmp_path / "alone")
    assert tables(tmp_path / "alone") == 1
    built(options, tmp_path / "beside", "sampling=all", "updates=200")
    _, beside = built(options, tmp_path / "beside")
    np.testing.assert_array_equal(alone.rows, beside.rows)
    for row in alone.rows:
        np.testing.assert_array_equal(alone.row(row), beside.row(row))
