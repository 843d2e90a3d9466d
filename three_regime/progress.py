"""Progress of a pack while it runs: epoch, error, images/s, time left, as log lines."""

from __future__ import annotations

import logging
import time

from humanfriendly import format_timespan

log = logging.getLogger(__name__)

EVERY_S = 5.0


class Progress:
    """Counts steps and images over a whole pack and logs at most one line every ``EVERY_S`` seconds.

    Parameters
    ----------
    members
        Runs that this pack will advance.
    """

    def __init__(self, members: int) -> None:
        self._members_left = members
        self._steps_left = self._steps_each = 0
        self._steps = self._images = 0
        self._start = self._last = time.monotonic()

    def begin(self, members: int, steps: int, done: int) -> None:
        """So many members start together: each has `steps` steps, of which an earlier process did `done`."""
        self._members_left = max(self._members_left - members, 0)
        self._steps_each, self._steps_left = steps, members * (steps - done)

    def advance(self, images: int, members: int) -> None:
        """Count one step of so many members with so many images each."""
        self._steps += members
        self._steps_left -= members
        self._images += images * members

    @property
    def due(self) -> bool:
        """Whether the next line may be written."""
        return time.monotonic() - self._last >= EVERY_S

    def report(self, text: str, *, always: bool = False) -> None:
        """Log `text` with rate and time left for the pack, when a line is due or `always`."""
        if not (always or self.due):
            return
        self._last = time.monotonic()
        if self._steps == 0:
            log.info("%s", text)
            return
        spent = self._last - self._start
        left = (self._steps_left + self._members_left * self._steps_each) * spent / self._steps
        log.info(
            "%s, %s images/s, %s left", text, f"{self._images / spent:,.0f}", format_timespan(round(left), False, 2)
        )
