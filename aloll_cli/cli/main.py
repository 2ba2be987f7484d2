"""The command line: ``aloll STAGE group=choice key=value …``, plain Hydra from the stage on.

One parent composes the configuration. With ``processes=N`` it writes the configuration down and starts N workers
(launching.py), which read it (worker.py); Hydra is entered once.
"""

from __future__ import annotations

import difflib
import os
import sys
import textwrap
from collections.abc import Mapping

from aloll_cli.command import Command
from aloll_cli.errors import UserError
from aloll_cli.stages import BESIDE, LINE, STAGES, Stage
from aloll_cli.stopping import Interrupted, interruptible

USAGE = """aloll fine-tunes language models by offline RL on reward-labelled text.

usage: aloll STAGE [GROUP=CHOICE] [OPTION=VALUE] …

The line of stages; each builds what is missing before it:
{line}

Other commands:
{beside}

  aloll STAGE --help          its options, with ranges and choices
  aloll STAGE --cfg job       print the configuration that it would run
  aloll STAGE -m OPTION=a,b   one run for each value
  aloll STAGE -q              warnings, errors and results only (-v: more details)
  aloll completion SHELL      completion for bash, zsh or fish
  aloll --version
"""

ELSEWHERE = {  # what other tools call a stage
    "sft": "train-reference", "finetune": "train", "fit": "train", "values": "precompute-values", "test": "evaluate",
    "generate": "evaluate", "predict": "evaluate", "list": "ls", "rm": "clean", "remove": "clean", "prune": "clean",
    "gc": "clean", "save": "export", "diff": "compare", "show": "inspect", "data": "inspect", "dry-run": "plan",
}  # fmt: skip


def main() -> None:
    """The console script. Exit code 2 for the user's mistakes, 130 and 143 for Ctrl-C and SIGTERM."""
    sys.exit(run_command(sys.argv[1:]))


def run_command(arguments: list[str]) -> int:
    """Run one command line; returns the exit code."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        sys.stdout.write(USAGE.format(line=_listed(LINE), beside=_listed(BESIDE)))
        return 0
    if arguments[0] == "--version":
        from importlib.metadata import version

        sys.stdout.write(f"aloll {version('aloll')}\n")
        return 0
    stage = arguments[0]
    command = Command(stage, tuple(arguments[1:]))
    try:
        if stage == "completion":
            from aloll_cli.cli.completion import script

            sys.stdout.write(script(" ".join(arguments[1:])))
            return 0
        if stage not in STAGES:
            raise UserError(f'there is no stage "{stage}".', _meant(stage))
        with interruptible():
            from aloll_cli.cli.composition import enter_hydra

            return enter_hydra(command)
    except UserError as error:
        sys.stderr.write(error.told(f"aloll {stage}: ") + "\n")
        return 2
    except BrokenPipeError:
        if not _reader_is_gone():
            raise
        return 0
    except OSError as error:
        sys.stderr.write(f"aloll {stage}: {of_the_system(error)}\n")
        return 2
    except Interrupted as stop:
        sys.stderr.write(f"aloll {stage}: stopped ({stop.reason}); finished work is kept. Continue with: {command}\n")
        return stop.code


def _meant(word: str) -> str:
    """What to type instead of a word that is no stage."""
    if word in ELSEWHERE:
        return f"Did you mean aloll {ELSEWHERE[word]}?"
    begun = [stage for stage in STAGES if word and stage.startswith(word)]
    close = difflib.get_close_matches(word, STAGES, n=1)
    if "=" in word or word.startswith("-"):
        return f"The stage comes first: aloll run {word}"
    found = begun or close
    return f"Did you mean {' or '.join(f'aloll {stage}' for stage in found)}?" if found else "aloll --help lists the stages."


def _listed(stages: Mapping[str, Stage]) -> str:
    """Stages with a line each."""
    return "\n".join(
        textwrap.fill(stage.what, 80, initial_indent=f"  {name:19}", subsequent_indent=" " * 21) for name, stage in stages.items()
    )


def of_the_system(error: OSError) -> UserError:
    """What to say where the operating system lets nobody read or write a file. Raises the error again where it is ours."""
    from aloll_cli.files import FORBIDDEN, FULL

    if error.errno not in FULL | FORBIDDEN:
        raise error
    what = f"{error.filename or 'a file'} cannot be read or written: {(error.strerror or str(error)).lower()}."
    return UserError(what, "Look at its permissions and at the room on its disk, then repeat the command.")


def _reader_is_gone() -> bool:
    """Whether stdout is a pipe whose reader has seen enough; what is still to be written goes nowhere then."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False
