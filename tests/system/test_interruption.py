"""Stop requests not covered by tests of whole runs."""

import signal
import subprocess
import sys
import textwrap
import threading
from types import SimpleNamespace

import psutil
import pytest

from three_regime.errors import Interrupted
from three_regime.system import interruption
from three_regime.system.interruption import Stop

STOPPED_WHILE_IT_HOLDS_ITS_LOCK = """
    import os, signal, threading, time
    from snakemake.scheduling.job_scheduler import JobScheduler
    from three_regime.system.interruption import stop_in_a_thread

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


def test_a_signal_between_steps_only_makes_the_request() -> None:
    stop = Stop()
    with pytest.raises(Interrupted), stop.at_once():
        with stop.between_steps():
            stop.signalled(signal.SIGTERM, None)
        assert stop.requested
        stop.signalled(signal.SIGTERM, None)
        pytest.fail("went on after the signal")
    with pytest.raises(Interrupted), stop.at_once():
        pytest.fail("began although a stop was requested")


def test_a_workflow_that_ends_between_two_questions_is_gone() -> None:
    stop = Stop()

    def ended() -> str:
        raise psutil.NoSuchProcess(1)

    interruption._watch(SimpleNamespace(is_running=lambda: True, status=ended), stop, threading.Event())
    assert stop.requested


def test_a_job_whose_workflow_is_gone_stops() -> None:
    """Snakemake was killed: nobody would record its result."""
    stop = Stop()
    interruption._watch(SimpleNamespace(is_running=lambda: False, status=lambda: ""), stop, threading.Event())
    assert stop.requested and "workflow that started this job is gone" in stop.reason
