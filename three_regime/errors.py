"""Exceptions that end a command with a message and an exit code, without a traceback."""

from __future__ import annotations

from pathlib import Path


class UserError(Exception):
    """An error that the user can fix; the message is one sentence that names the key or file."""

    exit_code = 2


class Damaged(UserError):
    """A file that cannot be read or does not match its digest.

    Attributes
    ----------
    path
        The file.
    what
        Description of the damage without advice: one sentence that begins with the path.
    """

    def __init__(self, path: Path, what: str, advice: str = "delete it and run again") -> None:
        self.path = Path(path)
        self.what = f"{path} {what}"
        super().__init__(f"{self.what}; {advice}" if advice else self.what)


class Diverged(UserError):
    """A result that is not a finite number or does not converge; other members of a pack are not affected."""


class Interrupted(Exception):
    """The command was asked to stop (by a signal, or its parent died); a training has saved its state."""

    exit_code = 143
