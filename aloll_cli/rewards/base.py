"""The base class of rewards: a reward scores rows of text, within a declared range."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from aloll_cli.errors import UserError
from aloll_cli.schema import name_of
from aloll_cli.tasks.atomic2020 import sentence

if TYPE_CHECKING:
    from aloll_cli.arrays import BoolArray, FloatArray, IntArray
    from aloll_cli.rewards.variation import Stored
    from aloll_cli.tasks.base import Task, Turn


COLUMNS = ("id", "reward", "cut", "malformed")  # of tables of rewards, beside those with the scores of its components
READS = 2  # to be increased when a change of Row.of changes what rewards read; 2: without the task's separator


@dataclass(frozen=True)
class Row:
    """The input of a reward.

    Attributes:
        id: name of the example or generation, for error messages.
        group: identity of the prompt (16 hexadecimal digits).
        prompt: the whole prompt, uncut.
        response: a logged response as its row has it, or a generated one; both without the separator.
        stored: the reward stored in the data, or None.
        turns: the prompt as chat turns; if the last one is the assistant's, the response continues it.
        separator: what stands between prompt and response, put there by the task: a space or nothing.
    """

    id: str
    group: str
    prompt: str
    response: str
    stored: float | None = None
    turns: Sequence[Turn] = ()
    separator: str = ""

    @classmethod
    def of(
        cls, task: Task, id: str, group: str, prompt: str, text: str, stored: float | None = None, turns: Sequence[Turn] = ()
    ) -> Row:
        """A row from a text that follows its prompt: the only place where the task's separator is removed.

        Args:
            task: the task of the prompt, which says where it puts a separator.
            id, group, prompt, stored, turns: as in the row.
            text: what was logged or generated, which begins with the separator, unless a model left it out.
        """
        is_chat = bool(turns) and turns[-1]["role"] == "assistant"
        rest = text.removeprefix(" ")
        separator = task.separator(prompt, rest, is_chat) if rest != text else ""
        return cls(id, group, prompt, text.removeprefix(separator), stored, turns, separator)

    @property
    def text(self) -> str:
        """The response as it follows the prompt, with the separator."""
        return self.separator + self.response

    @property
    def sentence(self) -> str:
        """Prompt and response as one text: a triple of task=comet as a sentence, anything else unchanged."""
        return sentence(self.prompt, self.text, self.group)


class Scorer(ABC):
    """A loaded reward."""

    @abstractmethod
    def score(self, rows: Sequence[Row]) -> FloatArray:
        """(N,) rewards of N rows, finite, within the reward's range. Raises UserError for a row it cannot score."""

    def told(self) -> str | None:
        """How it was understood to score, as a line of the log; None if the options say it all."""
        return None

    def warning(self) -> str | None:
        """What is doubtful about how it scores, as a sentence; None if nothing is."""
        return None

    def cut(self, rows: Sequence[Row]) -> IntArray | None:
        """(N,) number of tokens that are cut from each row to fit the scorer, or None if it never cuts."""
        return None

    def doubt(self, rows: Sequence[Row], scores: FloatArray) -> str | None:
        """What is doubtful about the (N,) scores of the first rows of a table, as a sentence; None if nothing is.

        Raises:
            UserError: they are no function of each row.
        """
        return None

    def malformed(self, rows: Sequence[Row]) -> BoolArray | None:
        """(N,) which of the rows that were scored last have no score that can be read, or None if all always have one."""
        return None


def reading(reward: Reward) -> dict[str, Any]:
    """What the recipes of scores, and of what is fitted to rows, hold about these; white space that nothing reads is no part."""
    return {"reads": READS} if reward.reads_edges else {}


def check_name(name: str, hint: str) -> None:
    """Raises UserError, with a hint, where tables of rewards have another column of a reward's name."""
    if name in COLUMNS:
        raise UserError(f'a reward cannot be called "{name}": tables of rewards have another column of this name.', hint)


@dataclass(kw_only=True)
class Reward(ABC):
    """One real number per response to a prompt.

    A reward only scores rows: artifacts/rewards.py cuts them into blocks and resumes, scoring.py checks the scores.
    """

    version: ClassVar[int] = 1  # to be increased when a change of the code changes results
    language: ClassVar[str | None] = None  # of the texts that it is made for, if it is made for one

    @property
    def label(self) -> str:
        """Its name in tables and folders."""
        return name_of(self)

    @property
    @abstractmethod
    def range(self) -> tuple[float, float]:
        """(lo, hi): bounds of all scores; infinite if unbounded."""

    @property
    def scores_text(self) -> bool:
        """Whether it can score new text; false if it only reads stored rewards."""
        return True

    @property
    def reads_edges(self) -> bool:
        """Whether white space at the ends of a response may change its score."""
        return True

    def knows(self, response: str) -> bool:
        """Whether it can tell anything from a response; False where the script is none that it knows words of."""
        return True

    def understands(self, response: str) -> bool | None:
        """Whether a response looks like :attr:`language`; None where it is too short to tell."""
        return None

    def check_stored(self, stored: Stored) -> str | None:
        """Whether the stored rewards of the data, (N,) by split, suit a reward that reads them; most do not read any.

        Returns:
            A warning, or None.

        Raises:
            UserError: it cannot take them.
        """
        return None

    @property
    def downloads(self) -> bool:
        """Whether it needs more than this machine: loading it may download from the hub, or a server scores the rows."""
        return False

    def content(self) -> dict[str, Any]:
        """Identity of loaded weights for the recipe, in addition to the options: file hashes, a resolved revision.

        It is that of the moment: asked again when the reward is loaded, and refused if it is another then.
        """
        return {}

    @property
    def read_from(self) -> str:
        """Where what :meth:`content` identifies comes from, for messages."""
        return f"reward={name_of(self)}"

    @property
    def is_fitted(self) -> bool:
        """Whether :meth:`fit` has to run on the raw train split before scoring."""
        return False

    def fit(self, train: Sequence[Row], validation: Sequence[Row], directory: Path) -> dict[str, float]:
        """Fit on the raw train split, write the state to a directory, and return metrics on the validation rows."""
        raise NotImplementedError

    @abstractmethod
    def scorer(self, state: Path | None) -> Scorer:
        """Load the reward for scoring; state is the directory written by :meth:`fit`, or None."""

    def held_out(self) -> Reward | None:
        """A second reward, not used in training, for evaluation if the user names none; None if there is none."""
        return None
