"""The only kind of error that is shown without a traceback."""


class UserError(Exception):
    """An error that the user can fix: what is wrong and where, then what to type.

    Both parts are kept in ``args``, so the error survives pickling (a sweep's launcher sends it between processes).
    """

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what, hint)

    def __str__(self) -> str:
        return "\n".join(part for part in self.args if part)


class NoStoredReward(UserError):
    """A response without a stored reward where one is needed. Who knows the data adds which columns there are."""
