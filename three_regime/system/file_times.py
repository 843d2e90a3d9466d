"""Times of files, by which Snakemake judges whether a job must run."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable
from pathlib import Path


def put_in_order(inputs: Iterable[Path], outputs: Iterable[Path]) -> int:
    """Make outputs that are right as young as their youngest input; returns how many had another time.

    Snakemake would otherwise run their job again, every time. Nothing can be younger than a file from the future (the
    clock was set back since, or that of another machine is ahead): such inputs are given the present time, and such
    outputs that of their youngest input. Files that are not there are passed over.
    """
    read = {path for path in inputs if path.exists()}
    now = time.time_ns()
    for path in read:
        if path.stat().st_mtime_ns > now:
            with contextlib.suppress(OSError):  # of somebody else
                os.utime(path, ns=(now, now), follow_symlinks=False)
    newest = max((path.stat().st_mtime_ns for path in read), default=0)
    wrong = [path for path in outputs if path.exists() and not newest <= path.stat().st_mtime_ns <= max(newest, now)]
    given = newest or now
    for path in wrong:
        os.utime(path, ns=(given, given), follow_symlinks=False)
    return len(wrong)
