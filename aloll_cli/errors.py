"""The one kind of error a user sees without a traceback."""


class UserError(Exception):
    """A mistake its author can mend: what is wrong and where, then what to type.

    Both parts travel in ``args``, so the error survives pickling (a sweep's launcher sends it between processes).
    """

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what, hint)

    def __str__(self) -> str:
        return "\n".join(part for part in self.args if part)
