"""The marks of an output folder, and the rule that below them nothing is written through a symbolic link.

``.aloll`` marks a folder whose artifacts ``clean`` and ``verify`` may remove. CACHEDIR.TAG (bford.info/cachedir) tells backup
programs that everything in it can be built again; a folder that held other things before does not get one.
"""

from __future__ import annotations

import shlex
from contextlib import suppress
from pathlib import Path

from aloll_cli.errors import UserError
from aloll_cli.files import below, write_text

MARK, TAG = ".aloll", "CACHEDIR.TAG"
TRACKING = ".tracking"  # the folder of experiment trackers
TEXT = "aloll writes artifacts below this folder; aloll clean and aloll verify may remove them.\n"
TAG_TEXT = (
    "Signature: 8a477f597d28d172789f06886806bc55\n# This tag was written by aloll, which can build everything here again.\n"
)


def mark(output_dir: Path) -> None:
    """Mark an output folder, which need not exist yet, and mend marks that were damaged. A read-only one stays as it is."""
    with suppress(OSError):
        if not is_marked(output_dir):
            output_dir.mkdir(parents=True, exist_ok=True)
            if not any(output_dir.iterdir()):
                write_text(output_dir / TAG, TAG_TEXT, durably=True)
            write_text(output_dir / MARK, TEXT, durably=True)
        for name, text in ((MARK, TEXT), (TAG, TAG_TEXT)):
            if _is_damaged(output_dir / name, text.encode()):
                write_text(output_dir / name, text, durably=True)


def _is_damaged(file: Path, content: bytes) -> bool:
    """Whether a file of ours, which is as long as we wrote it, has other content."""
    return not file.is_symlink() and file.is_file() and file.stat().st_size == len(content) and file.read_bytes() != content


def is_marked(output_dir: Path) -> bool:
    """Whether a folder bears our mark."""
    mark = output_dir / MARK
    return mark.is_file() and not mark.is_symlink()


def refuse_links(*places: Path, within: Path | None = None) -> None:
    """Raises UserError if one of some places is a link, symbolic or hard, or anything inside the folder ``within``."""
    inside = [] if within is None else [*below(within)]
    for path in (*places, *([within] if within else []), *inside):
        if path.is_symlink():
            what = f"{path} is a symbolic link; below output_dir nothing is written through one."
            hint = f"Remove it: {shlex.join(['rm', str(path)])}; output_dir itself may be a link to another disk."
            raise UserError(what, hint)
        if path in inside and not path.is_dir() and path.exists() and path.stat().st_nlink > 1:
            what = f"{path} is a hard link: what is written there would change another file, too."
            raise UserError(
                what, f"Replace it by a copy: {shlex.join(['cp', '--remove-destination', f'{path}', f'{path}.copy'])}"
            )
