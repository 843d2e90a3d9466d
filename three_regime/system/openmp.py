"""Limit how long OpenMP threads spin at the end of a parallel region before they sleep."""

from __future__ import annotations

import os

SPINS = 1000
"""About a microsecond; the default is milliseconds, which is a time slice taken from the thread being waited for."""


def spin_briefly() -> None:
    """Let waiting threads of this process yield quickly to other programs, unless ``GOMP_SPINCOUNT`` is set.

    Call it before torch is imported. With one other busy process on two cores, a training step of PreResNet-20 then
    takes 136 ms instead of 560 ms; on idle cores nothing changes (``benchmarks/README.md``).
    """
    os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))
