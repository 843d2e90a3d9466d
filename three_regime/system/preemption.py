"""Requeue SLURM jobs that are preempted with a grace time, as soon as they have saved their state."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
from collections.abc import Iterator

from three_regime.errors import Interrupted

log = logging.getLogger(__name__)

SCONTROL_S = 30


@contextlib.contextmanager
def requeued_if_preempted() -> Iterator[None]:
    """Requeue the job if the block was interrupted because SLURM preempts it.

    A preempted job gets SIGTERM, and is requeued when its partition's ``GraceTime`` is over. If it exits within that
    time, SLURM considers it failed (observed in 22.05), which would use up one of Snakemake's retries. Jobs that were
    cancelled, reached their time limit or may not be requeued are left alone.
    """
    try:
        yield
    except Interrupted:
        number = _own_number()
        if number is not None:
            _requeue_if_preempted(number)
        raise


def _own_number() -> str | None:
    """SLURM's id of this job; for an array ``<array>_<task>``, since the plain id of one task is that of the array."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID")


def _requeue_if_preempted(number: str) -> None:
    try:
        words = _scontrol("--oneliner", "show", "job", number).split()
        job = dict(word.split("=", 1) for word in words if "=" in word)
        preempted = job.get("PreemptTime", "None") not in {"None", "N/A"}
        if preempted and job.get("JobState") == "RUNNING" and job.get("Requeue") == "1":
            log.warning("SLURM preempts job %s: requeueing it", number)
            _scontrol("requeue", number)
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("job %s could not be requeued in SLURM: %s", number, error)


def _scontrol(*arguments: str) -> str:
    command = ["scontrol", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=SCONTROL_S).stdout
