"""What a user's own code (plugins, reward functions) returns and raises, as numbers and as errors that show the user's part."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from aloll_cli.errors import UserError
from aloll_cli.files import near, storage_trouble
from aloll_cli.source_code import plugin_of

if TYPE_CHECKING:
    from aloll_cli.arrays import FloatArray

MEND = "Correct the file and repeat the command; whatever was built without it stays cached."


@contextmanager
def plugin_errors() -> Iterator[None]:
    """Within this context an exception that comes from a plugin's code becomes a UserError; others pass unchanged."""
    try:
        yield
    except (Exception, SystemExit) as error:
        found = of_plugin(error)
        if found is None:
            raise
        raise found from None


def of_plugin(error: BaseException, place: str = "", hint: str = MEND) -> UserError | None:
    """The error to show for an exception that comes from a plugin's code; None for any other.

    Args:
        error: as it was caught.
        place: what the code was given, such as a line of a file.
        hint: what to do about it.
    """
    if isinstance(error, UserError) or (isinstance(error, Exception) and storage_trouble(error)):
        return None
    trace = within(error, _is_of_plugin)
    if trace is None:
        return None
    what = f"{_entry(trace.tb_frame)} raised {summary(error)}"
    return UserError(f"{place}: {what}" if place else what, hint, shown_traceback(error, trace))


def within(error: BaseException, is_users: Callable[[FrameType], bool]) -> TracebackType | None:
    """An exception's traceback from the first frame in the user's code on; None where no frame is in it."""
    trace = error.__traceback__
    while trace is not None and not is_users(trace.tb_frame):
        trace = trace.tb_next
    return trace


def shown_traceback(error: BaseException, trace: TracebackType | None) -> str:
    """A traceback as Python prints it."""
    return "".join(traceback.format_exception(type(error), error, trace)).rstrip()


def summary(error: BaseException) -> str:
    """An exception in one sentence: ``KeyError: 'stars'.``"""
    lines = "".join(traceback.format_exception_only(error)).splitlines()
    line = next(line for line in lines if not line.startswith(" "))  # a SyntaxError begins with the place
    return line if line.endswith((".", "!", "?")) else f"{line}."


def _is_of_plugin(frame: FrameType) -> bool:
    """Whether a frame's code stands in a file of a plugin; ``__init__`` of a dataclass stands in none."""
    return plugin_of(str(frame.f_globals.get("__name__"))) is not None and not frame.f_code.co_filename.startswith("<")


def _entry(frame: FrameType) -> str:
    """The entry that a frame's file is, and the file; of helpers the file alone."""
    module, file = str(frame.f_globals["__name__"]), Path(frame.f_code.co_filename)
    group, _, name = module.removeprefix(f"{plugin_of(module)}.").rpartition(".")
    return f"{group}={name} ({near(file)})" if file.with_suffix(".yaml").exists() else near(file)


def real_numbers(returned: Any) -> FloatArray:
    """What a user's code returned as 64-bit numbers, of whatever shape; booleans are 0 and 1.

    Raises:
        TypeError: it is no array of real numbers, with what it is. A cast would make numbers of complex ones, of dates, of texts
            and of what is under a mask.
    """
    import numpy as np

    if isinstance(returned, np.ma.MaskedArray):
        raise TypeError("a masked array")
    try:
        found = np.asarray(returned)
        kinds = [found.dtype] if found.dtype != object else [np.asarray(cell).dtype for cell in found.flat]
        wrong = next((kind for kind in kinds if kind.kind not in "biufO"), None)
        if wrong is None:
            return found.astype(np.float64)
    except (TypeError, ValueError, RuntimeError) as error:  # RuntimeError: from torch, for a tensor with a gradient
        raise TypeError(" ".join(str(error).split()).rstrip(".")) from None
    raise TypeError("texts" if wrong.kind in "SU" else f"values of the type {wrong}")
