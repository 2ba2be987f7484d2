"""The comments in conf/: the reference of options and ``--help`` show them, word for word."""

from importlib import resources
from pathlib import Path

import pytest
import yaml
from yaml.nodes import MappingNode, Node

CONF = Path(str(resources.files("aloll_cli.conf")))
FILES = sorted(file.relative_to(CONF).with_suffix("").as_posix() for file in CONF.rglob("*.yaml"))
DECLARING = [name for name in FILES if not name.startswith("experiment/")]  # experiments only set what others declare
NOT_OURS = ("defaults", "hydra")  # Hydra's own
OPTION_LENGTH, DESCRIPTION_LENGTH = 120, 100


def comments(text: str) -> dict[str, str | None]:
    """Every option that a YAML file sets, by its dotted key, with the comment at the end of its line."""
    lines = text.splitlines()

    def below(node: Node, prefix: str) -> dict[str, str | None]:
        found: dict[str, str | None] = {}
        for key, value in node.value:
            name = prefix + key.value
            if name in NOT_OURS:
                continue
            if isinstance(value, MappingNode) and value.value:
                found |= below(value, f"{name}.")
                continue
            rest = lines[value.end_mark.line][value.end_mark.column :].strip()
            found[name] = rest.removeprefix("#").strip() if rest.startswith("#") else None
        return found

    root = yaml.compose(text)
    return below(root, "") if isinstance(root, MappingNode) else {}


def description(text: str) -> str | None:
    """The first comment line of a YAML file, behind the one for Hydra."""
    lines = [line for line in text.splitlines() if not line.startswith("# @package")]
    return lines[0].removeprefix("#").strip() if lines and lines[0].startswith("#") else None


@pytest.mark.parametrize("name", DECLARING)
def test_every_option_has_a_comment_of_one_line_behind_its_value(name):
    found = comments((CONF / f"{name}.yaml").read_text())
    assert [option for option, comment in found.items() if not comment] == []
    assert [option for option, comment in found.items() if comment and len(comment) > OPTION_LENGTH] == []


def test_no_option_of_the_root_is_left_out_of_that():
    found = comments((CONF / "config.yaml").read_text())
    assert set(found) == set(yaml.safe_load((CONF / "config.yaml").read_text())) - set(NOT_OURS)
    assert found["keep_checkpoints"] == "number of latest checkpoints to keep, in addition to the best policy"
    # fourteen groups, the root, what every task has, and Hydra's launchers
    assert len({group.partition("/")[0] for group in DECLARING}) == 17


def test_options_of_a_nested_mapping_are_found_by_their_dotted_key():
    assert comments("a:\n  b: 1  # one\n  c: {d: 2}\n  e: '#'  # three\nf: []\n") == {
        "a.b": "one",
        "a.c.d": None,
        "a.e": "three",
        "f": None,
    }


@pytest.mark.parametrize("name", FILES)
def test_every_file_begins_with_a_description_of_one_line(name):
    found = description((CONF / f"{name}.yaml").read_text())
    assert found
    assert len(found) <= DESCRIPTION_LENGTH
    assert "aloll run" not in found  # examples stand on a later line
    assert "aloll train" not in found


def test_files_of_a_group_that_set_the_same_options_explain_them_alike():
    alike = {"variant/alol": "variant/r_lol", "task/wow": "task/faithdial_wow", "model/small": "model/tiny"}
    for one, other in alike.items():
        assert comments((CONF / f"{one}.yaml").read_text()) == comments((CONF / f"{other}.yaml").read_text())


@pytest.mark.parametrize("name", FILES)
def test_no_line_is_wider_than_a_screen(name):
    assert [line for line in (CONF / f"{name}.yaml").read_text().splitlines() if len(line) > 150] == []
