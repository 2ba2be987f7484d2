"""Command lines in processes of their own that need not load the heavy libraries again: a process that has them forks for each.

Reads ``[folder, arguments, Python to run first, file for stdout, file for stderr]`` a line on stdin, writes the exit code a
line on stdout.
"""

import gc
import json
import os
import sys
import traceback
from importlib import import_module

from aloll_cli.cli import _quiet_libraries, main

# what the stages load; they compute on one thread, since OpenMP was loaded before threads= was read
LOADED = (
    "accelerate", "datasets", "matplotlib.pyplot", "peft", "rouge_score.rouge_scorer", "sacrebleu.metrics.bleu", "scipy.stats",
    "sklearn.feature_extraction.text", "torch", "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto", "transformers.models.llama.modeling_llama",
    "vaderSentiment.vaderSentiment", "aloll_cli.composition", "aloll_cli.logprobs", "aloll_cli.models",
)  # fmt: skip


def serve() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    _quiet_libraries(verbose=False)
    for name in LOADED:
        import_module(name)
    gc.freeze()  # a collection in a fork would copy every page that it looks at, and so would an interpreter's orderly end
    for line in sys.stdin:
        folder, arguments, before, out, err = json.loads(line)
        child = os.fork()
        if child == 0:
            _become(folder, arguments, out, err)
            exec(before, {})
            os._exit(_code())
        sys.stdout.write(f"{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\n")
        sys.stdout.flush()


def _code() -> int:
    """What the command line ends with, all of its output written."""
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


def _become(folder: str, arguments: list[str], out: str, err: str) -> None:
    """Look like a process that a user started in a folder."""
    os.setsid()
    for number, (file, flags) in enumerate([(os.devnull, os.O_RDONLY), (out, os.O_WRONLY), (err, os.O_WRONLY)]):
        os.dup2(os.open(file, flags), number)
    os.chdir(folder)
    sys.argv = ["aloll", *arguments]


if __name__ == "__main__":
    serve()
