"""Command lines that must never load a heavy library, one after the other in a process that none of them has loaded one into.

Reads ``[folder, arguments]`` a line on stdin, writes ``[exit code, stderr, heavy libraries]`` a line on stdout.
"""

import contextlib
import io
import json
import os
import sys

from aloll_cli.cli.main import run_command

HEAVY = {"torch", "transformers", "datasets", "peft"}


def main() -> None:
    for line in sys.stdin:
        folder, arguments = json.loads(line)
        os.chdir(folder)
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run_command(arguments)
        answer = json.dumps([code, err.getvalue(), sorted(HEAVY & set(sys.modules))])
        sys.stdout.write(answer + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
