"""Random command lines, in a process of its own: ``python tests/fuzzing.py 5000 [SEED] [--show]``.

Each is composed or refused: exit code 0 with settings, or 2 with two to four lines; never a traceback, never torch.
"""

import contextlib
import io
import re
import string
import sys
from collections import Counter

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

import aloll_cli.cli.composition as composition
from aloll_cli.cli.main import run_command
from aloll_cli.cli.validation import declared_keys, register
from aloll_cli.schema import flatten
from aloll_cli.settings.groups import GROUPS
from aloll_cli.settings.root import Settings

HEAVY = {"torch", "transformers", "datasets", "peft"}


def real_keys() -> list[str]:
    """Every option of every choice of every group."""
    from hydra import compose, initialize_config_module
    from omegaconf import OmegaConf

    register(Settings, GROUPS)
    with initialize_config_module("aloll_cli.conf", version_base=None):
        found = set(declared_keys(compose("config"))) | set(declared_keys(compose("config", ["task=local"])))
    for group, entries in GROUPS.items():
        found |= {f"{group}.{key}" for cls in entries.values() for key in declared_keys(OmegaConf.structured(cls))}
    return sorted(key for key in found if not key.startswith("hydra"))


def defaults() -> dict[str, object]:
    """Every option of the default configuration with its value."""
    from hydra import compose, initialize_config_module
    from omegaconf import OmegaConf

    with initialize_config_module("aloll_cli.conf", version_base=None):
        return flatten(OmegaConf.to_container(compose("config")))


KEYS = [*real_keys(), *GROUPS, "test_reward", "experiment", "hydra.run.dir", "hydra/launcher"]
CHOICES = [name for entries in GROUPS.values() for name in entries] + ["small", "tiny", "hha_small", "fitted_characters"]


@st.composite
def near_misses(draw: st.DrawFn) -> str:
    """A real key with one letter lost, doubled, swapped or changed."""
    key = draw(st.sampled_from(KEYS))
    place = draw(st.integers(0, len(key) - 1))
    letter = draw(st.sampled_from(string.ascii_lowercase + "._-/@"))
    return draw(
        st.sampled_from(
            [
                key[:place] + key[place + 1 :],
                key[:place] + letter + key[place:],
                key[:place] + letter + key[place + 1 :],
                key.upper(),
            ]
        )
    )


NUMBERS = st.one_of(
    st.integers(-(10**20), 10**20), st.integers(-3, 3), st.floats(), st.sampled_from(["1e400", "0x10", "1_000", "-0", "NaN"])
).map(str)
WORDS = st.one_of(
    st.sampled_from(CHOICES),
    st.sampled_from(
        ["null", "true", "off", "???", "None", "yes", "''", '""', "a b", "~", "é", "…", "\\", "$", "%", "#", "a#b", "@", ":"]
    ),
    st.text(max_size=6),
)
INTERPOLATIONS = st.sampled_from(
    ["${seed}", "${nosuch}", "${oc.env:HOME}", "${oc.env:NO_SUCH_VARIABLE}", "${oc.env:NO_SUCH_VARIABLE,3}", "${", "${seed",
     "${}", "${variant}", "${now:%H}", "${hydra:job.num}", "${oc.decode:'['}", "${.}", "${..seed}", "$seed", "\\${seed}"]
)  # fmt: skip
SCALARS = st.one_of(NUMBERS, WORDS, INTERPOLATIONS)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: "[" + ",".join(items) + "]"),
        st.lists(st.tuples(WORDS, inner), max_size=2).map(lambda items: "{" + ",".join(f"{k}:{v}" for k, v in items) + "}"),
        st.lists(inner, min_size=2, max_size=3).map(",".join),
        inner.map(lambda value: f"'{value}'"),
        inner.map(lambda value: f'"{value}'),
        inner.map(lambda value: f"choice({value})"),
        inner.map(lambda value: f"[{value}"),
    ),
    max_leaves=4,
)
PLAUSIBLE = st.one_of(
    *(st.sampled_from([f"{group}={name}" for name in entries if name != "scratch"]) for group, entries in GROUPS.items()),
    st.sampled_from([f"{key}={value}" for key, value in defaults().items() if value not in (None, "???")]),
    st.tuples(st.sampled_from(["seed", "updates", "batch_size", "eval_prompts", "resamples"]), st.integers(1, 10**6)).map(
        lambda parts: f"{parts[0]}={parts[1]}"
    ),
)
OVERRIDES = st.one_of(
    PLAUSIBLE,
    PLAUSIBLE,
    PLAUSIBLE,
    st.tuples(
        st.sampled_from(["", "", "", "+", "++", "~", "+++", " "]), st.one_of(st.sampled_from(KEYS), near_misses(), WORDS), VALUES
    ).map(lambda parts: f"{parts[0]}{parts[1]}={parts[2]}"),
    st.sampled_from(KEYS).map(lambda key: f"~{key}"),
    st.sampled_from(KEYS),
    st.text(max_size=8),
    st.sampled_from(
        ["-q", "-v", "-m", "--cfg", "--bogus", "-x", "--resolve", "--", "-", "--config-name=x", "--config-dir=/nowhere"]
    ),
)
outcomes: Counter[str] = Counter()
SHOW = "--show" in sys.argv


def check(arguments: list[str]) -> None:
    """One command line."""
    accepted: list[Settings] = []
    composition.run_stage = lambda command, chosen, more_follow=False: accepted.append(chosen)  # acceptance is the test
    composition.compare = lambda command, runs: None
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run_command(["train", *arguments])
    assert not HEAVY & set(sys.modules), HEAVY & set(sys.modules)
    said = err.getvalue()
    assert "Traceback" not in said, said
    if code == 0:
        assert accepted or out.getvalue(), (arguments, "neither accepted nor shown")
        assert all(isinstance(found, Settings) for found in accepted)
    else:
        assert code == 2, code
        assert said.startswith("aloll train: "), said
        assert 2 <= len(said.rstrip("\n").split("\n")) <= 4, said
        assert not re.search(r"full_key|object_type|reference_type|ConfigKeyError|ValidationError|<class|DictConfig", said), said
    outcomes["accepted" if code == 0 else "refused"] += 1
    if SHOW:
        sys.stdout.write(f"{arguments}\n{said}\n")


def main() -> None:
    """Exit code 0 where every command line was composed or refused."""
    numbers = [int(word) for word in sys.argv[1:] if word.isdigit()]
    count, chosen = numbers[0], numbers[1] if len(numbers) > 1 else 0

    @seed(chosen)
    @settings(max_examples=count, deadline=None, database=None, suppress_health_check=list(HealthCheck), print_blob=False)
    @given(st.lists(OVERRIDES, min_size=1, max_size=3))
    def fuzz(arguments: list[str]) -> None:
        check(arguments)

    fuzz()
    sys.stdout.write(f"{outcomes.total()} command lines: {outcomes['accepted']} accepted, {outcomes['refused']} refused\n")


if __name__ == "__main__":
    main()
