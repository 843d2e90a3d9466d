"""Stop requests not covered by tests of whole runs."""

import signal
import threading
from types import SimpleNamespace

import psutil
import pytest

from three_regime.errors import Interrupted
from three_regime.system import interruption
from three_regime.system.interruption import Stop


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
