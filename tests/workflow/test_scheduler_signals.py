"""Snakemake's scheduler is stopped in a thread."""

import subprocess
import sys
import textwrap

STOPPED_WHILE_IT_HOLDS_ITS_LOCK = """
    import os, signal, threading, time
    from snakemake.scheduling.job_scheduler import JobScheduler
    from three_regime.workflow.scheduler_signals import stop_in_a_thread

    stop_in_a_thread(JobScheduler)
    stop_in_a_thread(JobScheduler)
    scheduler = JobScheduler.__new__(JobScheduler)
    scheduler._lock = threading.Lock()
    scheduler._open_jobs = threading.Semaphore(0)
    scheduler._user_kill = None
    signal.signal(signal.SIGTERM, scheduler.exit_gracefully)
    with scheduler._lock:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.1)
        assert scheduler._user_kill is None
    assert scheduler._open_jobs.acquire(timeout=10)
    print(scheduler._user_kill)
"""


def test_snakemake_stopped_while_recording_does_not_hang() -> None:
    # In a process of its own: with Snakemake's own handler it hangs.
    code = textwrap.dedent(STOPPED_WHILE_IT_HOLDS_ITS_LOCK)
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert ran.stdout.split() == ["graceful"], ran.stderr
