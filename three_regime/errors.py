"""The ways in which a command ends without a result and without a traceback."""

from __future__ import annotations

from pathlib import Path


class UserError(Exception):
    """Something that the user can mend; the message is one clear sentence naming the key or the file."""

    exit_code = 2


class Damaged(UserError):
    """A file that cannot be read, or that does not hold what its digest says.

    Attributes
    ----------
    path
        The file.
    what
        What is wrong with it, without advice: one sentence that begins with the path.
    """

    def __init__(self, path: Path, what: str, advice: str = "delete it and run again") -> None:
        self.path = Path(path)
        self.what = f"{path} {what}"
        super().__init__(f"{self.what}; {advice}" if advice else self.what)


class Interrupted(Exception):
    """The run was asked to stop (SIGTERM, SIGINT, or its parent died) and has saved its state."""

    exit_code = 143
