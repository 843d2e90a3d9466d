"""Timing by interleaved pairs, with a check for load from other processes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import psutil

QUIET = 0.2
"""A measurement is undisturbed if other processes use fewer cores than this."""


def clock(threads: int) -> Callable[[], float]:
    """Return the clock: CPU time of this process with one thread, else wall-clock time."""
    return time.process_time if threads == 1 else time.perf_counter


class Others:
    """Context manager that measures the cores used by processes other than this one and its children."""

    cores: float

    def __enter__(self) -> Others:
        self._before = time.monotonic(), _busy(), _own()
        return self

    def __exit__(self, *_: object) -> None:
        began, busy, own = self._before
        # Short runs are below the resolution of the counters.
        self.cores = max(0.0, round((_busy() - busy - (_own() - own)) / max(time.monotonic() - began, 0.1), 2))


def _busy() -> float:
    times = psutil.cpu_times()
    return times.user + times.system + times.nice


def _own() -> float:
    total = 0.0
    this = psutil.Process()
    for process in (this, *this.children(recursive=True)):
        try:
            total += sum(process.cpu_times()[:4])  # user, system, and the same of finished children
        except psutil.Error:
            continue
    return total


def wait_for_quiet(patience_s: float) -> None:
    """Wait until other processes have been idle for two seconds, at most `patience_s`."""
    give_up = time.monotonic() + patience_s
    while time.monotonic() < give_up:
        with Others() as others:
            time.sleep(2)
        if others.cores < QUIET:
            return


@dataclass(frozen=True)
class Pair:
    """Seconds of both sides, measured in succession, and the cores used by other processes meanwhile."""

    ours: float
    usual: float
    others: float

    @property
    def ratio(self) -> float:
        return self.usual / self.ours


def compare(
    ours: Callable[[], float], usual: Callable[[], float], *, pairs: int, patience_s: float, attempts: int = 3
) -> dict[str, Any]:
    """Measure pairs until `pairs` of them are undisturbed, at most `attempts` times as many.

    The side that goes first alternates.

    Returns
    -------
    ``ours``, ``usual`` (median seconds), ``ratio`` (median of the pairs' ratios), ``ratios`` (lowest, highest),
    ``disturbed`` (whether disturbed pairs had to be used) and every pair measured.
    """
    measured: list[Pair] = []
    undisturbed: list[Pair] = []
    while len(undisturbed) < pairs and len(measured) < (attempts * pairs if patience_s else pairs):
        wait_for_quiet(patience_s)
        with Others() as others:
            if len(measured) % 2:
                theirs, mine = usual(), ours()
            else:
                mine, theirs = ours(), usual()
        measured.append(Pair(mine, theirs, others.cores))
        undisturbed = [pair for pair in measured if pair.others < QUIET]
    disturbed = len(undisturbed) < pairs
    used = measured if disturbed else undisturbed
    ratios = [pair.ratio for pair in used]
    return {
        "ours": statistics.median(pair.ours for pair in used),
        "usual": statistics.median(pair.usual for pair in used),
        "ratio": statistics.median(ratios),
        "ratios": [min(ratios), max(ratios)],
        "disturbed": disturbed,
        "pairs": [{**asdict(pair), "ratio": pair.ratio} for pair in measured],
    }
