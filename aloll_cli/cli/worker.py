"""One of several processes that launching.py started: reads the configuration that the parent wrote."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

from aloll_cli.cli.execution import execute
from aloll_cli.errors import UserError
from aloll_cli.files import of_the_system
from aloll_cli.runtime.world import part
from aloll_cli.settings.plugins import read_settings
from aloll_cli.stages import command_of
from aloll_cli.stopping import TIME_IS_UP, Interrupted, interruptible
from aloll_cli.watchdog import end_with_parent, watched

# what gloo and NCCL say in a process whose peer has gone, which has said why
LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "NCCL communicator was aborted")


def main() -> int:
    """Usage: python -m aloll_cli.cli.worker FILE STAGE [ARGUMENT …]. What ends all processes is said once."""
    file, stage, *arguments = sys.argv[1:]
    try:
        with watched(f"aloll {stage}: process {os.environ['RANK']}"), interruptible():
            end_with_parent()
            execute(command_of(stage, arguments), read_settings(Path(file)))
    except UserError as error:
        _say(Path(file), error.told(f"aloll {stage}: "))
        return 2
    except OSError as error:
        _say(Path(file), of_the_system(error).told(f"aloll {stage}: "))
        return 2
    except RuntimeError as error:
        if not any(words in str(error) for words in LOST):
            raise
        _say(Path(file), f"aloll {stage}: another of the processes ended first.")
        return 1
    except Interrupted as stop:
        return stop.code or TIME_IS_UP
    finally:
        part()
    return 0


def _say(file: Path, text: str) -> None:
    """Say why this process ends, unless another one was faster: whichever fails first knows the reason."""
    with suppress(FileExistsError, FileNotFoundError):  # the parent has removed the folder
        file.with_suffix(".said").touch(exist_ok=False)
        sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
