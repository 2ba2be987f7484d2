"""How the C library treats memory that was freed."""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # parameters of glibc's mallopt(3)
NEVER = -1
LARGE = 2**20  # bytes; larger blocks are mapped each by itself, where freed memory is returned
LARGEST = 2**30  # bytes; larger blocks go back to the system, so that blocks of many sizes do not add up


def keep_freed_memory() -> None:
    """Let freed blocks of up to LARGEST bytes be used again by this process, instead of returning them to the system.

    By default glibc maps each tensor of over 32 MiB anew, and the system fills it with zeros, page by page: a fifth of a training
    step on a CPU whose vocabulary is large. Where the environment sets glibc's own variables (``MALLOC_…_``), or the C library is
    another one, nothing is changed.
    """
    _set({MMAP_THRESHOLD: LARGEST, TRIM_THRESHOLD: NEVER})


def return_freed_memory() -> None:
    """Let freed blocks of more than LARGE bytes go back to the system, unless the environment says otherwise as above.

    For processes that share a model: layers are gathered and dropped all the time, by several threads with heaps of their own,
    whose holes would take more than sharing saves.
    """
    _set({MMAP_THRESHOLD: LARGE})


def _set(options: dict[int, int]) -> None:
    if sys.platform == "linux" and not any(name.startswith("MALLOC_") for name in os.environ):
        with suppress(AttributeError):  # another C library
            mallopt = ctypes.CDLL(None).mallopt
            for option, value in options.items():
                mallopt(option, value)
