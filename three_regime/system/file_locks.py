"""Locks on files between processes: the system releases them when a process dies in any way.

Some network file systems have no locks (NFS without its lock service): there it works without, and says so.
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
    """A lock that is held until it is released; None on a file system without locks.

    Parameters
    ----------
    timeout
        Seconds to wait for it; 0 tries once, -1 waits for ever.

    Raises
    ------
    filelock.Timeout
        When another process holds it for longer.
    UserError
        When the file cannot be opened; the message names it.
    """
    # The library's own substitute, a file whose being there is the lock, would outlive a killed process.
    lock = FileLock(path, fallback_to_soft=False)
    try:
        lock.acquire(timeout=timeout)
    except Timeout:
        raise
    except OSError as error:
        if error.errno in _NO_LOCKS:
            log.warning("the file system of %s has no locks: see to it that one process at a time works there", path)
            return None
        raise UserError(f"cannot write the lock {path}: {os.strerror(error.errno or 0)}") from error
    return lock


@contextlib.contextmanager
def exclusively(path: Path, waiting: str = "") -> Iterator[None]:
    """Hold the lock `path`, in a folder that is made where it is missing; log `waiting` before waiting for it."""
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
