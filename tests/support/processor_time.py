"""Limits on processor time: unlike the clock, it hardly depends on what else the machine is doing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def limited_to(seconds: float) -> Iterator[None]:
    """Fail if this process and the subprocesses that ended in the block used more than `seconds` of processor time.

    A limit is several times what an idle machine needs, because a shared core may run at half its speed. It finds
    mistakes of order (a quadratic loop, an import of torch for each job); `python -m benchmarks` measures the rest.
    """
    before = used()
    yield
    spent = used() - before
    assert spent < seconds, f"{spent:.1f} s of processor time, limit {seconds:.0f} s"


def used() -> float:
    """Seconds of processor time of this process and its subprocesses that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
