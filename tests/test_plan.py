"""``aloll plan``: the options in which two recipes differ, named like the options of the command line."""

import pytest
from tiny import composed, some_slow

from aloll_cli.artifacts.pipeline import Pipeline
from aloll_cli.stages.plan import differences


def recipe(*overrides: str) -> dict:
    return Pipeline(composed(*overrides)).metrics.recipe


@pytest.mark.parametrize(
    ("overrides", "expected"),
    some_slow([
        (["model.layers=3"], {"model.layers": (4, 3)}),
        (["model.vocab_size=300"], {"model.vocab_size": (2048, 300)}),
        (["reference.seed=7"], {"reference.seed": (1, 7)}),
        (["reference.optimizer.lr=0.5", "optimizer.lr=0.25"], {"reference.optimizer.lr": 0.5, "optimizer.lr": 0.25}),
        (["values.epochs=9"], {"values.epochs": 9}),
        (["sampling=uniform", "eval_prompts=9"], {"sampling": ("priority", "uniform"), "eval_prompts": 9}),
        (["generation.top_p=0.5"], {"generation.top_p": 0.5}),
        (["task.max_response_tokens=7"], {"task.max_response_tokens": 7}),
        (["resamples=9"], {"resamples": 9}),
    ]),
)  # fmt: skip
def test_an_option_is_named_once_with_its_values(overrides, expected):
    found = differences(recipe(), recipe(*overrides))
    assert {key: found[key] if isinstance(values, tuple) else found[key][1] for key, values in expected.items()} == expected
    assert found.keys() == expected.keys()


def test_of_a_group_with_another_choice_only_the_choice_differs():
    assert differences(recipe(), recipe("variant=ref_free"))["variant"] == ("seq", "ref_free")
    assert not any(key.startswith("variant.") for key in differences(recipe(), recipe("variant=ref_free")))
    assert differences(recipe(), recipe("values=data"))["values"] == ("head", "data")


def test_an_input_that_one_recipe_lacks_is_a_difference_with_no_kind():
    assert differences(recipe(), recipe("variant=ref_free"))["input reference_logps"] == ("reference-logps", None)


def test_equal_recipes_do_not_differ():
    assert differences(recipe(), recipe("batch_size=16", "threads=1")) == differences(recipe(), recipe("batch_size=16"))
    assert differences(recipe(), recipe()) == {}
