"""One of several processes that launching.py started: reads the configuration that the parent wrote."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from aloll_cli.cli import execute
from aloll_cli.command import Command
from aloll_cli.config import from_plain
from aloll_cli.errors import UserError
from aloll_cli.settings import Settings
from aloll_cli.stopping import TIME_IS_UP, Interrupted, interruptible


def main() -> int:
    """Usage: python -m aloll_cli.worker FILE STAGE [ARGUMENT …]. A user's mistake is said once, by the first process."""
    import yaml

    file, stage, *arguments = sys.argv[1:]
    settings = from_plain(Settings, yaml.safe_load(Path(file).read_text()))
    try:
        with interruptible():
            execute(Command(stage, tuple(arguments)), settings)
    except UserError as error:
        if os.environ.get("RANK", "0") == "0":
            sys.stderr.write(f"aloll {stage}: {error}\n")
        return 2
    except RuntimeError as error:
        if "Connection closed by peer" not in str(error):
            raise
        return 1  # another process ended first, and says why
    except Interrupted as stop:
        return stop.code or TIME_IS_UP
    return 0


if __name__ == "__main__":
    sys.exit(main())
