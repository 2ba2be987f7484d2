"""One command in processes that torchrun, accelerate launch or srun have started, each with the same command line.

The first process enters Hydra. The others run what it has composed, and write nothing of their own: so a sweep, a plugin or a
value of the environment is read once, on the first machine.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from aloll_cli.cli.execution import execute
from aloll_cli.cli.worker import is_lost
from aloll_cli.command import Command
from aloll_cli.errors import UserError
from aloll_cli.files import of_the_system
from aloll_cli.runtime import rendezvous
from aloll_cli.runtime.world import part
from aloll_cli.settings.plugins import settings_as_text, settings_from_text
from aloll_cli.stages import command_of
from aloll_cli.stopping import Interrupted


def together(command: Command, enter: Callable[[Command], int]) -> int:
    """Run a command in all processes of its job; returns the exit code of this one.

    Args:
        command: the same in all of them.
        enter: composes and runs it, in the first one.
    """
    met = rendezvous.meet(command.stage)
    code = 1
    try:
        code = enter(command) if rendezvous.rank() == 0 else _follow(met)
    except UserError as error:
        code = _said(met, error.told(f"aloll {command.stage}: "), 2)
    except OSError as error:
        code = _said(met, of_the_system(error).told(f"aloll {command.stage}: "), 2)
    except RuntimeError as error:
        if not is_lost(error):
            raise
        code = _said(met, f"aloll {command.stage}: another of the processes ended first.", 1)
    except Interrupted as stop:
        code = stop.code
        if rendezvous.rank() == 0:
            raise
    finally:
        if rendezvous.rank() == 0:
            with suppress(RuntimeError):  # the store may have gone with another machine
                met.send({"code": code})
        part()
        met.leave()
    return code


def share(command: Command, settings: Any) -> None:
    """Let the other processes of this job run a stage, too, where there are any."""
    if (met := rendezvous.current()) is not None:
        met.send({"stage": command.stage, "arguments": command.arguments, "settings": settings_as_text(settings)})


def _follow(met: rendezvous.Rendezvous) -> int:
    """Run what the first process sends, one job after the other; returns its exit code."""
    while "code" not in (message := met.receive()):
        execute(command_of(message["stage"], message["arguments"]), settings_from_text(message["settings"]))
    return int(message["code"])


def _said(met: rendezvous.Rendezvous, text: str, code: int) -> int:
    """Say why this process ends, unless another one was faster: whichever fails first knows the reason."""
    if met.speaks():
        sys.stderr.write(f"{text}\n")
    return code
