"""The command line: ``aloll STAGE group=choice key=value …``, plain Hydra from the stage on.

One parent composes the configuration. With ``processes=N`` it writes the configuration down and starts N workers
(launching.py), which read it (worker.py). Of processes that torchrun or srun started, the first composes it, and the others
get it from that (joining.py). Either way Hydra is entered once.
"""

from __future__ import annotations

import difflib
import os
import select
import sys
import textwrap
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from aloll_cli.cli.flags import FLAGS
from aloll_cli.cli.layout import entry
from aloll_cli.command import Command
from aloll_cli.errors import UserError
from aloll_cli.files import check_current_folder, of_a_user, of_the_system
from aloll_cli.runtime.rendezvous import size
from aloll_cli.stages import BESIDE, LINE, STAGES, Stage, command_of
from aloll_cli.stopping import Interrupted, interruptible
from aloll_cli.visible import on_terminal
from aloll_cli.watchdog import watched

USAGE = """aloll fine-tunes language models by offline RL on reward-labelled text.

usage: aloll STAGE [GROUP=CHOICE] [OPTION=VALUE] … [FLAG] …

The line of stages; each builds what is missing before it:
{line}

Other commands:
{beside}

Flags of every stage:
{flags}

  aloll help STAGE          the same as aloll STAGE --help
  aloll completion SHELL    completion for bash, zsh or fish
  aloll --version
"""
COMPLETION = "usage: aloll completion bash|zsh|fish\n\nprints a script that completes stages, flags, options and choices\n"
HELP = ("-h", "--help", "help", "-help")
ELSEWHERE = {  # what other tools call a stage
    "sft": "train-reference", "finetune": "train", "fit": "train", "values": "precompute-values", "test": "evaluate",
    "predict": "generate", "sample": "generate", "infer": "generate", "ask": "generate", "talk": "chat",
    "list": "ls", "rm": "clean", "remove": "clean", "prune": "clean", "gc": "clean", "save": "export", "diff": "compare",
    "show": "inspect", "data": "inspect", "dry-run": "plan",
    "all": "run", "resume": "run", "start": "run", "status": "runs", "history": "runs", "push": "export",
}  # fmt: skip


def main() -> None:
    """The console script. Exit code 2 for the user's mistakes, 130, 143 and 129 for Ctrl-C, SIGTERM and SIGHUP."""
    if sys.stdin is None:
        sys.stdin = open(os.devnull)  # noqa: SIM115  it lives as long as the process
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by the shell: aloll ls >&-
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115  it lives as long as the process
        else:
            stream.reconfigure(errors="backslashreplace")  # in ASCII, … is \\u2026
    sys.exit(run_command(sys.argv[1:]))


def _tell(line: str) -> None:
    """Write to stderr, or do without where it cannot be written: the exit code still says what happened."""
    with suppress(OSError):
        sys.stderr.write(line)
        sys.stderr.flush()


def run_command(arguments: list[str]) -> int:
    """Run one command line; returns the exit code."""
    if not arguments or arguments[0] in HELP:
        arguments = _helped(arguments[1:])
    if not arguments:
        flags = "\n".join(line for flag in FLAGS for line in entry(flag.shown, flag.what))
        sys.stdout.write(USAGE.format(line=_listed(LINE), beside=_listed(BESIDE), flags=flags))
        return 0
    if arguments[0] == "--version":
        from importlib.metadata import version

        sys.stdout.write(f"aloll {version('aloll')}\n")
        return 0
    stage = arguments[0]
    command = command_of(stage, arguments[1:])
    try:
        check_current_folder()
        if stage == "completion":
            from aloll_cli.cli.completion import script

            sys.stdout.write(COMPLETION if set(arguments[1:]) & set(HELP) else script(" ".join(arguments[1:])))
            return 0
        if stage not in STAGES:
            raise UserError(f'there is no stage "{stage}".', _meant(arguments))
        with watched(f"aloll {stage}:"), interruptible():
            from aloll_cli.cli.composition import enter_hydra
            from aloll_cli.cli.joining import together

            return enter_hydra(command) if size() == 1 else together(command, enter_hydra)
    except UserError as error:
        _tell(error.told(f"aloll {stage}: ") + "\n")
        return 2
    except RuntimeError as error:
        _tell(of_a_user(error, arguments).told(f"aloll {stage}: ") + "\n")
        return 2
    except BrokenPipeError:
        if not _reader_is_gone():
            raise
        return 0
    except OSError as error:
        _tell(f"aloll {stage}: {of_the_system(error)}\n")
        return 2
    except Interrupted as stop:
        said = f"stopped ({stop.reason}); finished work is kept. Continue with: {command}"
        _tell(on_terminal(f"aloll {stage}: {said}\n"))
        return stop.code


def _helped(words: list[str]) -> list[str]:
    """``aloll help STAGE …`` and ``aloll --help STAGE …`` as the command that shows it; nothing for the list of stages."""
    if words == ["all"]:
        return ["run", "--help", "all"]
    return [words[0], "--help", *words[1:]] if words else []


def _meant(words: list[str]) -> str:
    """What to type instead of a command line whose first word is no stage."""
    word, *others = words
    if word.lower().strip("-") in ("v", "version"):
        return "aloll --version"
    name = word.lower().replace("_", "-")
    if name in ELSEWHERE:
        return f"Did you mean aloll {ELSEWHERE[name]}?"
    if "=" in word or word.startswith("-"):
        named = next((other for other in others if other in STAGES), None)
        rest = [other for other in words if other != named]
        return f"The stage comes first: {Command(named or 'run', tuple(rest))}"
    if Path(word).suffix in (".jsonl", ".csv", ".parquet", ".gz"):
        return f"The stage comes first: {Command('inspect', ('task=local', f'task.path={word}'))}"
    begun = [stage for stage in STAGES if name and stage.startswith(name)]
    found = [name] if name in STAGES else begun or difflib.get_close_matches(name, STAGES, n=1)
    return f"Did you mean {' or '.join(f'aloll {stage}' for stage in found)}?" if found else "aloll --help lists the stages."


def _listed(stages: Mapping[str, Stage]) -> str:
    """Stages with a line each."""
    return "\n".join(
        textwrap.fill(stage.what, 80, initial_indent=f"  {name:19}", subsequent_indent=" " * 21) for name, stage in stages.items()
    )


def _reader_is_gone() -> bool:
    """Whether stdout is a pipe whose reader has seen enough; what is still to be written goes nowhere then."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), select.POLLOUT)
    if not any(event & select.POLLERR for _, event in poll.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True
