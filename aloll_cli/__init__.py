"""aloll: offline reinforcement learning of language models on reward-labelled text.

Public names: ``compose``, ``run``, ``load_run``, and their types ``Settings``, ``Run``, ``UserError``. They are imported at first
use. Modules are internal, except for the base classes that entries derive from (``variants.base``, ``rewards.base``,
``tasks.base``, ``values.base``), and ``schema`` with what declares their options.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aloll_cli.api import Run, Settings, UserError, compose, load_run, run

__version__ = "0.1.0"
__all__ = ["Run", "Settings", "UserError", "__version__", "compose", "load_run", "run"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from aloll_cli import api

        return getattr(api, name)
    raise AttributeError(f"module 'aloll_cli' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
