"""Stop requests: SIGTERM, SIGINT, SIGHUP, or the death of the Snakemake that started this process."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil

from three_regime.errors import Interrupted

log = logging.getLogger(__name__)

WATCH_EVERY_S = 1.0


class Stop:
    """A stop request; `reason` is empty until one arrives."""

    def __init__(self) -> None:
        self.reason = ""
        self._raises = False

    @property
    def requested(self) -> bool:
        return bool(self.reason)

    def request(self, reason: str) -> None:
        if not self.reason:
            self.reason = reason
            log.warning("%s: saving the training state and stopping", reason)

    def signalled(self, number: int, _frame: object) -> None:
        """Signal handler."""
        self.request(f"received {signal.Signals(number).name}")
        if self._raises:
            raise Interrupted(self.reason)

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Inside the block, a signal raises `Interrupted` immediately.

        For long work between two steps (an evaluation on a CPU) that leaves nothing half-done.
        """
        if self.requested:
            raise Interrupted(self.reason)
        with self._raising(True):
            yield

    def between_steps(self) -> contextlib.AbstractContextManager[None]:
        """Inside the block, within one of `at_once`, a signal only makes the request, as outside of both."""
        return self._raising(False)

    @contextlib.contextmanager
    def _raising(self, value: bool) -> Iterator[None]:
        before, self._raises = self._raises, value
        try:
            yield
        finally:
            self._raises = before


@contextlib.contextmanager
def stop_on_signals(*, to_the_end: bool = False) -> Iterator[Stop]:
    """Turn SIGTERM, SIGINT, SIGHUP and the loss of the parent workflow into a `Stop` inside the block.

    SIGHUP tells of a closed terminal or a lost connection; ``nohup`` ignores it, and so does the block then.

    Snakemake killed with SIGKILL leaves its scripts running; without the watch such an orphan would keep writing into
    a folder that the next run uses.

    Parameters
    ----------
    to_the_end
        Ignore signals for the rest of the process after the block succeeds, so a finished job does not count as failed
        because it was stopped while exiting.
    """
    stop = Stop()
    ended = threading.Event()

    ending = [signal.SIGTERM, signal.SIGINT]
    ending += [signal.SIGHUP] if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN else []
    previous = {number: signal.signal(number, stop.signalled) for number in ending}
    workflow = _workflow()
    if workflow is not None:
        threading.Thread(target=_watch, args=(workflow, stop, ended), daemon=True).start()
    try:
        yield stop
        if to_the_end:
            previous = dict.fromkeys(previous, signal.SIG_IGN)
    finally:
        ended.set()
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def signals_raise() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise `Interrupted` inside the block where they would end the process at once.

    So whatever cleans up after itself does so: temporary files go, and nothing half-made stays.
    """

    def end(number: int, _frame: object) -> None:
        raise Interrupted(f"received {signal.Signals(number).name}; run the command again")

    mine = threading.current_thread() is threading.main_thread()  # others cannot set handlers
    ending = [each for each in (signal.SIGTERM, signal.SIGHUP) if mine and signal.getsignal(each) is signal.SIG_DFL]
    for number in ending:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in ending:
            signal.signal(number, signal.SIG_DFL)


def _workflow() -> psutil.Process | None:
    """The nearest ancestor that is Snakemake, if any."""
    with contextlib.suppress(psutil.Error):
        for ancestor in psutil.Process(os.getpid()).parents():
            # Compare whole names: the job's own shell has ".snakemake/scripts/..." in its command line.
            if any(Path(part).name == "snakemake" for part in ancestor.cmdline()[:3]):
                return ancestor
    return None


def _watch(workflow: psutil.Process, stop: Stop, ended: threading.Event) -> None:
    while not ended.wait(WATCH_EVERY_S):
        gone = True  # it may end between the two questions
        with contextlib.suppress(psutil.NoSuchProcess):
            gone = not workflow.is_running() or workflow.status() == psutil.STATUS_ZOMBIE
        if gone:
            stop.request("the workflow that started this job is gone")
            return
