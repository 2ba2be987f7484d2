"""One of several processes that launching.py started: reads the configuration from descriptors that it inherits."""

from __future__ import annotations

import os
import sys

from aloll_cli.cli.execution import execute
from aloll_cli.errors import UserError
from aloll_cli.files import of_the_system
from aloll_cli.runtime.world import part
from aloll_cli.settings.plugins import settings_from_text
from aloll_cli.stages import command_of
from aloll_cli.stopping import TIME_IS_UP, Interrupted, interruptible
from aloll_cli.watchdog import end_with_parent, watched

# what gloo and NCCL say in a process whose peer has gone, which has said why
LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "NCCL communicator was aborted")


def main() -> int:
    """Usage: python -m aloll_cli.cli.worker SETTINGS TURN STAGE [ARGUMENT …]. What ends all processes is said once."""
    stage, *arguments = sys.argv[3:]
    descriptor, turn = int(sys.argv[1]), int(sys.argv[2])
    try:
        with watched(f"aloll {stage}: process {os.environ['RANK']}"), interruptible():
            end_with_parent()
            execute(command_of(stage, arguments), settings_from_text(_read(descriptor)))
    except UserError as error:
        _say(turn, error.told(f"aloll {stage}: "))
        return 2
    except OSError as error:
        _say(turn, of_the_system(error).told(f"aloll {stage}: "))
        return 2
    except RuntimeError as error:
        if not is_lost(error):
            raise
        _say(turn, f"aloll {stage}: another of the processes ended first.")
        return 1
    except Interrupted as stop:
        return stop.code or TIME_IS_UP
    finally:
        part()
    return 0


def is_lost(error: RuntimeError) -> bool:
    """Whether an error says no more than that another process has gone."""
    return any(words in str(error) for words in LOST)


def _read(descriptor: int) -> str:
    """All of a file that the other processes read, too: no position of theirs is moved."""
    try:
        return os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode("utf-8")
    finally:
        os.close(descriptor)


def _say(turn: int, text: str) -> None:
    """Say why this process ends, unless another one was faster: whichever fails first knows the reason."""
    if os.read(turn, 1):
        sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
