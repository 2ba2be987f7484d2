import re
from pathlib import Path

import pytest
import yaml

import aloll_cli
from aloll_cli.stages import STAGES

ROOT = Path(aloll_cli.__file__).parents[1]
PAGES = {  # where the choices of a group are described
    "variant": ("README.md", "docs/methods.md"),
    "values": ("README.md", "docs/values.md"),
    "reward": ("README.md", "docs/rewards.md"),
    "sampling": ("docs/methods.md",),
    "task": ("docs/data.md",),
    "model": ("docs/large-models.md",),
    "adapter": ("docs/large-models.md",),
    "generation": ("docs/evaluation.md",),
    "experiment": ("docs/data.md", "docs/command-line.md"),
}
NOT_IN = {  # in one of the pages only, or based on by others
    "README.md": {"head_paper", "head_paper_hha", "fitted_characters"},
    "docs/data.md": {"paper_small", "compare_hha"},
    "docs/command-line.md": {name.stem for name in (ROOT / "conf" / "experiment").glob("paper_*")},
}


def in_code(page):
    """Every word that stands in code on a page."""
    text = (ROOT / page).read_text()
    return set(re.findall(r"\w+", " ".join(re.findall(r"```.*?```|`[^`\n]+`", text, flags=re.DOTALL))))


@pytest.mark.parametrize(("group", "page"), [(group, page) for group, pages in PAGES.items() for page in pages])
def test_every_choice_of_a_group_is_described(group, page):
    choices = {file.stem for file in (ROOT / "conf" / group).glob("*.yaml")}
    assert len(choices) > 2
    assert choices - in_code(page) == NOT_IN.get(page, set()) & choices


def test_every_stage_is_on_the_page_of_the_command_line():
    text = (ROOT / "docs" / "command-line.md").read_text()
    assert [stage for stage in STAGES if f"\n| `{stage}` |" not in text] == []


def test_readme_is_an_overview():
    assert len((ROOT / "README.md").read_text().splitlines()) < 160


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_every_file_that_is_linked_is_there(page):
    links = re.findall(r"\]\(((?!https?:)[^)#]+)", (ROOT / page).read_text())
    assert links
    assert [link for link in links if not (ROOT / link).is_file()] == []


def test_the_citation_names_the_version_of_the_package():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == aloll_cli.__version__
    assert [author["family-names"] for author in citation["preferred-citation"]["authors"]] == [
        "Baheti", "Lu", "Brahman", "Le Bras", "Sap", "Riedl",
    ]  # fmt: skip
