"""File locks between processes; the operating system releases them when a process dies.

Some network file systems do not support locks (NFS without its lock service); there a warning is logged instead.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from three_regime.errors import UserError

log = logging.getLogger(__name__)

_NO_LOCKS = frozenset((errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP))


def acquired(path: Path, timeout: float = -1) -> FileLock | None:
    """Acquire a lock; return None on a file system without locks.

    Parameters
    ----------
    timeout
        Seconds to wait for it; 0: try once, -1: wait forever.

    Raises
    ------
    filelock.Timeout
        When another process holds the lock for longer.
    UserError
        When the file cannot be opened; the message names it.
    """
    # The library's fallback, a file whose existence is the lock, would outlive a killed process.
    lock = FileLock(path, fallback_to_soft=False)
    try:
        lock.acquire(timeout=timeout)
    except Timeout:
        raise
    except OSError as error:
        if error.errno in _NO_LOCKS:
            log.warning("the file system of %s does not support locks: run only one process at a time there", path)
            return None
        raise UserError(f"cannot write the lock {path}: {os.strerror(error.errno or 0)}") from error
    return lock


@contextlib.contextmanager
def exclusively(path: Path, waiting: str = "") -> Iterator[None]:
    """Hold the lock `path`, creating its folder if necessary; log `waiting` before waiting for it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {path.parent}: {error.strerror}") from error
    try:
        lock = acquired(path, timeout=0)
    except Timeout:
        if waiting:
            log.warning("%s", waiting)
        lock = acquired(path)
    try:
        yield
    finally:
        if lock is not None:
            lock.release()
