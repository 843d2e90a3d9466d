"""Modification times of files, by which Snakemake decides whether a job must run."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable
from pathlib import Path


def put_in_order(inputs: Iterable[Path], outputs: Iterable[Path]) -> int:
    """Give valid outputs the time of their newest input if they are older; return how many were changed.

    Otherwise Snakemake would run their job again, every time. Inputs with a time in the future (the clock was set back,
    or that of another machine is ahead) get the current time, such outputs the time of their newest input. Missing
    files are ignored.
    """
    read = {path for path in inputs if path.exists()}
    now = time.time_ns()
    for path in read:
        if path.stat().st_mtime_ns > now:
            with contextlib.suppress(OSError):  # another user's file
                os.utime(path, ns=(now, now), follow_symlinks=False)
    newest = max((path.stat().st_mtime_ns for path in read), default=0)
    wrong = [path for path in outputs if path.exists() and not newest <= path.stat().st_mtime_ns <= max(newest, now)]
    given = newest or now
    for path in wrong:
        os.utime(path, ns=(given, given), follow_symlinks=False)
    return len(wrong)
