"""The two ways in which a command ends without a result and without a traceback."""


class UserError(Exception):
    """Something that the user can mend; the message is one clear sentence naming the key or the file."""

    exit_code = 2


class Interrupted(Exception):
    """The run was asked to stop (SIGTERM, SIGINT, or its parent died) and has saved its state."""

    exit_code = 143
