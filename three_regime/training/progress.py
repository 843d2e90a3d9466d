"""Log the progress of a running pack: epoch, error, images or tokens per second, time left."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from humanfriendly import format_timespan

log = logging.getLogger(__name__)

EVERY_S = 5.0


class Progress:
    """Count steps and images (or tokens) over a pack, and log at most one line every ``EVERY_S`` seconds.

    Parameters
    ----------
    members
        Number of runs in the pack.
    unit
        Unit of throughput: images or tokens.
    """

    def __init__(self, members: int, unit: str = "images") -> None:
        self._unit = unit
        self._members_left = members
        self._steps_left = self._steps_each = 0
        self._steps = self._seen = 0
        self._start = self._last = time.monotonic()

    def begin(self, steps: int, done: Sequence[int]) -> None:
        """Register runs of `steps` steps each, of which earlier processes made `done`, one number per run."""
        self._members_left -= len(done)
        self._steps_each = steps
        self._steps_left = sum(max(steps - each, 0) for each in done)

    def drop(self, members: int, done: int) -> None:
        """Forget `members` runs that end after `done` steps."""
        self._steps_left -= members * max(self._steps_each - done, 0)

    @property
    def left(self) -> int:
        """Steps left of all runs; those of a run not registered yet are counted as of the others."""
        return self._steps_left + self._members_left * self._steps_each

    def advance(self, seen: int, members: int) -> None:
        """Count one step of `members` runs on `seen` images or tokens each."""
        self._steps += members
        self._steps_left -= members
        self._seen += seen * members

    @property
    def due(self) -> bool:
        """Whether the next line may be written."""
        return time.monotonic() - self._last >= EVERY_S

    def report(self, text: str, *, always: bool = False) -> None:
        """Log `text` with throughput and the time left for the pack, if a line is due or `always`."""
        if not (always or self.due):
            return
        self._last = time.monotonic()
        if self._steps == 0:
            log.info("%s", text)
            return
        spent = self._last - self._start
        left = self.left * spent / self._steps
        rate = f"{self._seen / spent:,.0f} {self._unit}/s"
        log.info("%s, %s, %s left", text, rate, format_timespan(round(left), False, 2))
