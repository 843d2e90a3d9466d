"""How Snakemake's scheduler answers signals."""

from __future__ import annotations

import functools
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from snakemake.scheduling.job_scheduler import JobScheduler


def stop_in_a_thread(scheduler: type[JobScheduler]) -> None:
    """Make Snakemake handle SIGTERM in a thread, in this process from now on.

    Its own handler (Snakemake 9.27, ``JobScheduler.exit_gracefully``) waits for a lock in the interrupted thread. If
    that thread is recording a finished job, it holds the lock itself and deadlocks: one of 25 stopped runs of
    config/tiny.yaml hung.
    """
    answer = scheduler.exit_gracefully
    if hasattr(answer, "__wrapped__"):
        return

    @functools.wraps(answer)
    def exit_gracefully(*arguments: object) -> None:
        threading.Thread(target=answer, args=arguments, daemon=True).start()

    scheduler.exit_gracefully = exit_gracefully
