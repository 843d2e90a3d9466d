"""SLURM's preemption with a grace time: a job that has saved its state goes back into the queue at once."""

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
    """Where the work within was interrupted because SLURM preempts its job, put the job back into the queue.

    A preempted job gets SIGTERM, and is requeued when its partition's ``GraceTime`` is over. One that ends by itself
    within that time has failed for SLURM (seen in 22.05), and would use up one of Snakemake's retries. Jobs that were
    cancelled, reached their time limit or may not be requeued are left to end.
    """
    try:
        yield
    except Interrupted:
        number = _own_number()
        if number is not None:
            _requeue_if_preempted(number)
        raise


def _own_number() -> str | None:
    """What SLURM calls this job: of an array the task alone, since one task's own number is that of the array too."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID")


def _requeue_if_preempted(number: str) -> None:
    try:
        words = _scontrol("--oneliner", "show", "job", number).split()
        job = dict(word.split("=", 1) for word in words if "=" in word)
        preempted = job.get("PreemptTime", "None") not in {"None", "N/A"}
        if preempted and job.get("JobState") == "RUNNING" and job.get("Requeue") == "1":
            log.warning("SLURM preempts job %s: putting it back into the queue", number)
            _scontrol("requeue", number)
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("job %s could not be put back into SLURM's queue: %s", number, error)


def _scontrol(*arguments: str) -> str:
    command = ["scontrol", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=SCONTROL_S).stdout
