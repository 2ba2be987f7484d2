"""The only kind of error that is shown without a traceback."""

from aloll_cli.visible import on_terminal


class UserError(Exception):
    """An error that the user can fix: what is wrong and where, then what to type.

    All parts are kept in ``args``, so the error survives pickling (a sweep's launcher sends it between processes).
    """

    def __init__(self, what: str, hint: str = "", trace: str = "") -> None:
        """
        Args:
            what: what is wrong, and where.
            hint: what to type.
            trace: the traceback within the user's own code, where that raised something.
        """
        super().__init__(what, hint, *([trace] if trace else []))

    def __str__(self) -> str:
        return self.told("")

    def told(self, by: str) -> str:
        """The message as ``by`` says it: the user's traceback, if there is one, then the lines of the message; with escapes."""
        what, hint, *trace = self.args
        return on_terminal("\n".join(part for part in (*trace, by + what, hint) if part))


class NoStoredReward(UserError):
    """A response without a stored reward where one is needed. Who knows the data adds which columns there are."""
