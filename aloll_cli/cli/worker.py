"""One of several processes that launching.py started: reads the configuration that the parent wrote."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from aloll_cli.cli.execution import execute
from aloll_cli.cli.main import of_the_system
from aloll_cli.errors import UserError
from aloll_cli.runtime.world import part
from aloll_cli.settings.plugins import read_settings
from aloll_cli.stages import command_of
from aloll_cli.stopping import TIME_IS_UP, Interrupted, interruptible

# what gloo and NCCL say in a process whose peer has gone, which has said why
LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "NCCL communicator was aborted")


def main() -> int:
    """Usage: python -m aloll_cli.cli.worker FILE STAGE [ARGUMENT …]. A user's mistake is said once, by the first process."""
    file, stage, *arguments = sys.argv[1:]
    try:
        with interruptible():
            execute(command_of(stage, arguments), read_settings(Path(file)))
    except UserError as error:
        if os.environ.get("RANK", "0") == "0":
            sys.stderr.write(f"aloll {stage}: {error}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"aloll {stage}: {of_the_system(error)}\n")
        return 2
    except RuntimeError as error:
        if not any(words in str(error) for words in LOST):
            raise
        if os.environ.get("RANK", "0") == "0":
            sys.stderr.write(f"aloll {stage}: another of the processes ended first.\n")
        return 1
    except Interrupted as stop:
        return stop.code or TIME_IS_UP
    finally:
        part()
    return 0


if __name__ == "__main__":
    sys.exit(main())
