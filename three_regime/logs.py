"""Log to the terminal and to a rule's log file, and turn errors into exit codes."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from three_regime.errors import Interrupted, UserError

TERSE = "THREE_REGIME_TERSE"
"""Environment variable for terminal output. ``1``, set by the `workflow` command: jobs print only warnings (log files
stay complete). ``0``: the command leaves the output of Snakemake and of jobs unchanged."""

ENVIRONMENT = frozenset((
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.EMFILE,
    errno.ENFILE, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.ENOLCK, errno.ENODEV, errno.ENXIO,
    errno.EREMOTEIO, errno.EHOSTDOWN, errno.ENOTCONN,
))  # fmt: skip
"""Error codes of the file system or its medium, which are not faults of the program."""


@contextlib.contextmanager
def reporting(title: str = "", path: Path | None = None) -> Iterator[None]:
    """Log to the terminal, and to `path` if given; turn expected errors into one sentence and an exit code.

    Parameters
    ----------
    title
        Prefix of each line, because several jobs share a terminal.

    Raises
    ------
    SystemExit
        With the error's exit code on `UserError` and `Interrupted`, and with exit code 2 on file-system errors
        (``ENVIRONMENT``). Other exceptions are logged with their traceback and re-raised.
    """
    prefix = f"{title} | " if title else ""
    line = logging.Formatter(f"%(asctime)s {prefix}%(levelname)s %(message)s", "%H:%M:%S")
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if path is not None:
        handlers[0].setLevel(logging.WARNING if os.environ.get(TERSE) == "1" else logging.NOTSET)
        path.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(path, mode="a", encoding="utf-8"))
    root = logging.getLogger()
    for handler in handlers:
        handler.setFormatter(line)
        root.addHandler(handler)
    logging.getLogger("three_regime").setLevel(logging.INFO)
    logging.getLogger("fairseq").setLevel(logging.WARNING)
    try:
        yield
    except (UserError, Interrupted) as error:
        logging.getLogger("three_regime").error("%s", error)
        raise SystemExit(error.exit_code) from error
    except OSError as error:
        if error.errno not in ENVIRONMENT or not error.filename:
            logging.getLogger("three_regime").exception("unexpected error")
            raise
        logging.getLogger("three_regime").error("%s: %s", error.filename, os.strerror(error.errno))
        raise SystemExit(UserError.exit_code) from error
    except Exception:
        logging.getLogger("three_regime").exception("unexpected error")
        raise
    finally:
        for handler in handlers:
            root.removeHandler(handler)
            handler.close()
