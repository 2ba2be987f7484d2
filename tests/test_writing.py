"""Text files are written as a whole: by several processes at once, and where somebody put something in the way."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from aloll_cli.files import write_new, write_text

WRITER = """
import sys
from pathlib import Path
from aloll_cli.files import write_text
for _ in range(300):
    write_text(Path("page.html"), sys.argv[1] * 100_000)
"""


def test_several_processes_that_write_one_file_leave_one_of_their_texts(tmp_path: Path):
    running = [subprocess.Popen([sys.executable, "-c", WRITER, letter], cwd=tmp_path) for letter in "abcd"]
    seen = set()
    while any(process.poll() is None for process in running):
        if (tmp_path / "page.html").exists():
            seen.add((tmp_path / "page.html").read_text())
    assert [process.returncode for process in running] == [0] * 4
    assert seen <= {letter * 100_000 for letter in "abcd"}
    assert len(seen) > 1
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"]


@pytest.mark.parametrize("kind", ["nothing", "text of a killed process", "symbolic link", "broken link", "hard link", "pipe"])
def test_what_stands_in_the_way_is_replaced_and_not_followed(tmp_path: Path, kind: str):
    precious, temporary = tmp_path / "precious", tmp_path / ".page.html.tmp"
    precious.write_text("precious")
    make = {
        "nothing": lambda: None,
        "text of a killed process": lambda: temporary.write_text("longer than what is written now"),
        "symbolic link": lambda: temporary.symlink_to(precious),
        "broken link": lambda: temporary.symlink_to(tmp_path / "nowhere"),
        "hard link": lambda: temporary.hardlink_to(precious),
        "pipe": lambda: os.mkfifo(temporary),
    }
    make[kind]()
    write_text(tmp_path / "page.html", "new")
    assert (tmp_path / "page.html").read_text() == "new"
    assert precious.read_text() == "precious"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["page.html", "precious"]


@pytest.mark.parametrize("has_links", [True, False])
def test_a_new_file_is_written_whole_and_one_that_is_there_is_left_alone(tmp_path: Path, monkeypatch, has_links: bool):
    def refuse(file: Path, target: Path) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM), str(file))

    if not has_links:
        monkeypatch.setattr(Path, "hardlink_to", refuse)
    (tmp_path / ".rows.jsonl.tmp").write_text("somebody's")
    write_new(tmp_path / "rows.jsonl", "first\n")
    with pytest.raises(FileExistsError):
        write_new(tmp_path / "rows.jsonl", "second\n")
    found = {file.name: file.read_text() for file in tmp_path.iterdir()}
    assert found == {".rows.jsonl.tmp": "somebody's", "rows.jsonl": "first\n"}


TELLER = """
from aloll_cli.cli.main import run_command
from aloll_cli.runtime.terminal import Log
Log().say("a line that nobody sees")
raise SystemExit(run_command(["train", "variant=nosuch"]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_command_ends_with_its_own_exit_code_where_stderr_cannot_be_written():
    with open("/dev/full", "w") as full:
        assert subprocess.run([sys.executable, "-c", TELLER], stderr=full, check=False).returncode == 2
