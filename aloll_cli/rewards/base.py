"""What a reward is: it scores rows of text, and says in which range."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from aloll_cli.schema import name_of
from aloll_cli.tasks.atomic2020 import sentence

if TYPE_CHECKING:
    from aloll_cli.arrays import FloatArray, IntArray
    from aloll_cli.tasks.base import Turn


@dataclass(frozen=True)
class Row:
    """What a reward may look at.

    Attributes:
        id: the example's or generation's name, for messages.
        group: the prompt's identity (16 hexadecimal digits).
        prompt: the whole prompt, uncut.
        response: the text that is trained on, or that was generated.
        stored: the reward that the data stores, or None.
        turns: the prompt again, as who said what; where the assistant spoke last, the response goes on from there.
    """

    id: str
    group: str
    prompt: str
    response: str
    stored: float | None = None
    turns: Sequence[Turn] = ()

    @property
    def sentence(self) -> str:
        """Prompt and response as one text to read: a triple of task=comet as a sentence, anything else as it stands."""
        return sentence(self.prompt, self.response, self.group)


class Scorer(ABC):
    """A reward that is loaded and ready."""

    @abstractmethod
    def score(self, rows: Sequence[Row]) -> FloatArray:
        """(N,) rewards of N rows, finite, within the reward's range. Raises UserError for a row it cannot score."""

    def cut(self, rows: Sequence[Row]) -> IntArray | None:
        """(N,) how many tokens of each row are too many for the scorer to read, or None where it reads all of any row."""
        return None


@dataclass(kw_only=True)
class Reward(ABC):
    """One real number for a response to a prompt.

    Sorting, batching, resuming and checking for NaN are the work of the driver (scoring.py), not of a reward.
    """

    version: ClassVar[int] = 1  # to be increased when a change of the code changes results

    @property
    def label(self) -> str:
        """What tables and folders call it."""
        return name_of(self)

    @property
    @abstractmethod
    def range(self) -> tuple[float, float]:
        """(lo, hi) of every score; infinite where unbounded."""

    @property
    def scores_text(self) -> bool:
        """Whether new text can be scored, or only what the data stores."""
        return True

    @property
    def downloads(self) -> bool:
        """Whether loading it may ask a hub."""
        return False

    def content(self) -> dict[str, Any]:
        """What identifies weights that are loaded, beyond the options: file hashes, a resolved revision."""
        return {}

    @property
    def is_fitted(self) -> bool:
        """Whether :meth:`fit` must have run on the raw train split before."""
        return False

    def fit(self, train: Sequence[Row], validation: Sequence[Row], directory: Path) -> dict[str, float]:
        """Fit on the raw train split, write the state to a directory, return the skill on held-out rows."""
        raise NotImplementedError

    @abstractmethod
    def scorer(self, state: Path | None) -> Scorer:
        """Load what scoring needs; state is the directory that :meth:`fit` wrote, where there is one."""

    def held_out(self) -> Reward | None:
        """A second reward that training never sees, to judge by where the user names none."""
        return None
