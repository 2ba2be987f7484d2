"""What is taken away of a comparison: CSV, Markdown, LaTeX and JSON, and figures for a paper with their numbers."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from html import unescape
from pathlib import Path
from xml.etree import ElementTree

import matplotlib as mpl
import pytest
from evaluated import write_run
from hydra.core.global_hydra import GlobalHydra
from markdown_it import MarkdownIt
from matplotlib.figure import Figure
from tiny import composed

from aloll_cli.cli.main import run_command
from aloll_cli.comparison.differences import Comparison, compared
from aloll_cli.comparison.runs import load_run
from aloll_cli.errors import UserError
from aloll_cli.reports.comparison_columns import as_plain
from aloll_cli.reports.csv_table import csv_table
from aloll_cli.reports.figure_folder import check_folder, write_figures
from aloll_cli.reports.latex import escaped, latex
from aloll_cli.reports.markdown import markdown
from aloll_cli.reports.paper_figures import figures_of
from aloll_cli.reports.paper_style import LONGEST, POINT, STYLE, shortened
from aloll_cli.store.manifest import write_manifest

HOSTILE = "a|b_c\\d&e%f$g#h{i}~^<b>*x*[y](http://z)`\"'--\r\n,;é你"
PROMPTS = "abcdefghijkl"


def made(root: Path, hostile: str = HOSTILE, curves: bool = True) -> Comparison:
    """Four runs of two methods that differ in an option with a hostile value."""
    kl = {side: {"kl_per_token": {"mean": value, "ci95": [0.0, 0.9]}} for side, value in (("policy", 0.3), ("reference", 0.0))}
    folders = []
    for i, value in enumerate((hostile, "plain")):
        for seed in (1, 2):
            rewards = {prompt: 0.4 + 0.1 * i + 0.01 * seed * k for k, prompt in enumerate(PROMPTS)}
            folder = write_run(
                root, "seq", seed, rewards, options={"task": {"path": value}}, scores=(0.1, 0.2 + i), curves=curves
            )
            figures = json.loads((folder / "metrics.json").read_text())
            for side, more in kl.items():
                figures[side] |= more
            (folder / "metrics.json").write_text(json.dumps(figures))
            write_manifest(folder)
            folders.append(folder)
    return compared([load_run(folder) for folder in folders])


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def leaves(value, key=""):
    """The numbers and texts of nested dicts by their path, as CSV names them."""
    if key.endswith("ci95"):
        return {f"{key}.{i}": bound for i, bound in enumerate(value or (None, None))}
    if not isinstance(value, dict):
        return {key: value}
    return {k: v for name, one in value.items() for k, v in leaves(one, f"{key}.{name}" if key else name).items()}


@pytest.mark.slow
def test_csv_reads_back_as_the_json_to_the_last_digit(tmp_path):
    found = made(tmp_path)
    read = rows_of(csv_table(found))
    expected = [leaves(method) for method in json.loads(json.dumps(as_plain(found)))["methods"]]
    assert len(read) == len(expected) == 2
    assert read[0]["options.task.path"] == HOSTILE
    assert float(read[1]["difference.mean"]) == expected[1]["difference.mean"] != 0
    compared_keys = 0
    for row, one in zip(read, expected, strict=True):
        for key, value in one.items():
            if key not in row:
                assert value is None
                continue
            compared_keys += 1
            text = row[key]
            back = text if isinstance(value, str) else None if text == "" else json.loads(text)
            assert back == value
    assert compared_keys > 80


def cells_of_html(text: str, tag: str) -> list[str]:
    return [unescape(re.sub("<[^>]*>", "", cell)) for cell in re.findall(rf"<{tag}(?: [^>]*)?>(.*?)</{tag}>", text, re.DOTALL)]


@pytest.mark.slow
def test_markdown_renders_as_a_table_with_the_names_as_they_are(tmp_path):
    html = MarkdownIt("commonmark").enable("table").render(markdown(made(tmp_path)))
    assert "<a " not in html
    assert "<em>" not in html
    assert "<b>" not in html
    headings, cells = cells_of_html(html, "th"), cells_of_html(html, "td")
    assert headings[:3] == ["variant", "seed", "task.path"]
    assert len(cells) == 2 * len(headings)
    assert cells[:3] == ["seq", "1,2", HOSTILE.replace("\r\n", "\\r\\n")]
    gain = cells[len(headings) + headings.index("gain")]
    assert re.fullmatch(r"\+0\.\d{3} \[-?\d\.\d{3}, \d\.\d{3}\]", gain)


def tex_cells(text: str) -> list[list[str]]:
    """The rows of the first tabular, split at its unescaped &."""
    body = text.partition(r"\toprule")[2].partition(r"\bottomrule")[0]
    lines = [line.removesuffix(r" \\") for line in body.strip().splitlines() if line != r"\midrule"]
    return [re.split(r"(?<!\\)&", line) for line in lines]


@pytest.mark.slow
def test_latex_has_a_cell_for_each_column_and_nothing_that_tex_reads_as_more(tmp_path):
    text = latex(made(tmp_path))
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") > 1
    for table in text.split(r"\begin{tabular}")[1:]:
        spec = re.match(r"\{@\{\}(l+)(r+)@\{\}\}", table)
        assert spec is not None
        rows = tex_cells(table)
        assert len(rows) == 3
        assert {len(row) for row in rows} == {len(spec[1]) + len(spec[2])}
    code = [line for line in text.splitlines() if not line.startswith("%")]
    assert all(line.isascii() for line in code)
    assert not any(re.search(r"(?<!\\)[%#]", line) for line in code)
    assert all(line.startswith("%") for line in text.rpartition("}\n")[2].splitlines())
    depth = 0
    for brace in re.findall(r"(?<!\\)[{}]", "\n".join(code)):
        depth += 1 if brace == "{" else -1
        assert depth >= 0
    assert depth == 0


def test_every_ascii_character_and_accents_survive_tex():
    printable = "".join(map(chr, range(32, 127)))
    made_of = escaped(printable)
    for bare in "$&%#_":
        assert re.search(rf"(?<!\\)\{bare}", made_of) is None
    assert escaped("Ä é ş") == r"\"{A} \'{e} \c{s}"
    assert escaped("你 æ\n") == r"(U+4F60) (U+00E6)\textbackslash{}n"
    assert escaped("---") == "-{}-{}-"
    assert escaped("*[") == "{*}{[}"  # \\\\* and \\\\[ have a meaning of their own


@pytest.mark.slow
def test_figures_are_a_column_wide_of_8_points_and_the_same_bytes_again(tmp_path):
    found = made(tmp_path / "runs", hostile="$x_1$ <b>", curves=False)
    names = write_figures(found, tmp_path / "one")
    assert names == ["gain", "rewards", "reward-against-kl"]
    write_figures(found, tmp_path / "two")
    listed = json.loads((tmp_path / "one" / "figures.json").read_text())["figures"]
    files = [name for figure in listed.values() for name in figure["files"]]
    assert sorted(files) == sorted(path.name for path in (tmp_path / "one").iterdir() if path.name != "figures.json")
    assert len(files) == 3 * len(names)
    for name in files:
        content = (tmp_path / "one" / name).read_bytes()
        assert content == (tmp_path / "two" / name).read_bytes()
        assert b"20" + b"26-" not in content
        if name.endswith(".svg"):
            root = ElementTree.fromstring(content)
            assert root.get("width") == "234pt"  # 3.25 inches
        if name.endswith(".pdf"):
            assert re.search(rb"/MediaBox \[ 0 0 234 ", content)
            assert b"/Type3" not in content


def test_all_text_of_a_figure_has_8_points():

    with mpl.rc_context(STYLE):
        axes = Figure().add_subplot()
        axes.plot([0, 1], label="a")
        axes.set_title("a")
        texts = [axes.title, axes.xaxis.label, axes.yaxis.label, *axes.get_xticklabels(), *axes.legend().get_texts()]
        assert {text.get_size() for text in texts} == {float(POINT)}


@pytest.mark.slow
def test_the_numbers_beside_a_figure_are_those_that_it_draws(tmp_path):
    found = made(tmp_path, hostile="x")
    figures = {figure.name: figure for figure in figures_of(found)}
    assert {"gain", "rewards", "reward-against-kl", "validation-score", "training-loss", "training-kl"} <= figures.keys()
    gains = figures["gain"].rows
    assert [row["gain"] for row in gains] == [row.estimates["gain"]["mean"] for row in found.rows]
    assert [[row["low"], row["high"]] for row in gains] == [row.estimates["gain"]["ci95"] for row in found.rows]
    for side in ("reference", *(method.name for method in found.methods)):
        rows = [row for row in figures["rewards"].rows if row["side"] == side]
        assert sum(row["share"] for row in rows) == pytest.approx(1)
        assert rows[0]["responses"] == (48 if side == "reference" else 24)
    scores = [(row["seed"], row["step"], row["value"]) for row in figures["validation-score"].rows]
    assert scores == [(1, 0, 0.1), (1, 3, 1.2), (2, 0, 0.1), (2, 3, 1.2), (1, 0, 0.1), (1, 3, 0.2), (2, 0, 0.1), (2, 3, 0.2)]
    kl = figures["reward-against-kl"].rows
    assert [(row["kl_per_token"], row["reward"]) for row in kl if row["method"] == "reference"] == [(0.0, pytest.approx(0.4))]
    assert len(kl) == 5


def test_long_names_lose_their_middle():
    assert shortened("x" * LONGEST) == "x" * LONGEST
    assert len(shortened("abc" * 30)) == LONGEST
    assert shortened("a\nb") == "a\\nb"


Aloll = Callable[..., tuple[str, str]]


@pytest.fixture
def aloll(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Aloll]:
    """Runs a command in a folder with two evaluated runs; returns stdout and stderr."""
    made(tmp_path / "outputs" / "reviews", hostile="x&y", curves=False)
    composed()  # before the command line has a Hydra of its own
    monkeypatch.chdir(tmp_path)

    def told(*arguments: str, code: int = 0) -> tuple[str, str]:
        GlobalHydra.instance().clear()
        found = run_command(list(arguments))
        out, err = capsys.readouterr()
        assert found == code, err
        return out, err

    yield told
    GlobalHydra.instance().clear()


ALL = "runs=[outputs/reviews/metrics/*]"


@pytest.mark.slow
def test_a_table_goes_to_stdout_or_to_a_new_file(aloll):
    out, _ = aloll("compare", ALL, "format=csv")
    assert rows_of(out)[1]["options.task.path"] == "x&y"
    none, err = aloll("compare", ALL, "format=csv", "to=table.csv")
    assert none == ""
    assert "wrote     table.csv" in err
    assert Path("table.csv").read_bytes().decode() == out
    _, err = aloll("compare", ALL, "format=csv", "to=table.csv", code=2)
    assert "to=table.csv exists, and is not overwritten." in err
    _, err = aloll("compare", ALL, "format=csv", "to=other.tex", code=2)
    assert "format=latex to=other.tex" in err
    _, err = aloll("compare", ALL, "to=nowhere/t.html", code=2)
    assert "there is no folder nowhere" in err
    _, err = aloll("runs", "format=csv", code=2)
    assert "format=csv: runs prints no such table; compare does." in err


@pytest.mark.slow
def test_every_format_is_written_as_it_is_printed(aloll):
    for name, suffix in (("markdown", "md"), ("latex", "tex"), ("json", "json")):
        out, _ = aloll("compare", ALL, f"format={name}")
        aloll("compare", ALL, f"format={name}", f"to=table.{suffix}")
        assert Path(f"table.{suffix}").read_bytes().decode() == out
    aloll("compare", ALL, "to=table.html")
    (page,) = Path("outputs/reviews/report").glob("*.html")
    assert Path("table.html").read_text() == page.read_text()
    _, err = aloll("report", ALL, "figures=drawn")
    assert "figures   drawn: gain, rewards, reward-against-kl" in err


def test_figures_replace_figures_and_nothing_else(tmp_path):
    found = compared([load_run(write_run(tmp_path / "runs", curves=False))])
    drawn, other = tmp_path / "drawn", tmp_path / "other"
    assert write_figures(found, check_folder(str(drawn))) == ["gain", "rewards"]
    listed = json.loads((drawn / "figures.json").read_text())
    listed["figures"]["old"] = {"caption": "", "files": ["old.svg"]}
    (drawn / "figures.json").write_text(json.dumps(listed))
    for name in ("old.svg", "mine.txt"):
        (drawn / name).write_text("mine")
    write_figures(found, check_folder(str(drawn)))
    assert not (drawn / "old.svg").exists()
    assert (drawn / "mine.txt").read_text() == "mine"
    other.mkdir()
    assert check_folder(str(other)) == other
    for foreign in ("{}", '{"by": "aloll report", "figures": {"a": {"files": ["../mine.txt"]}}}'):
        (other / "figures.json").write_text(foreign)
        with pytest.raises(UserError, match="other exists, and is neither an empty folder nor one of such figures"):
            check_folder(str(other))
