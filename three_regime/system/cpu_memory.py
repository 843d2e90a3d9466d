"""Keep freed memory of large tensors in the process instead of returning it to the operating system."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # names in glibc's malloc.h
_MMAP_THRESHOLDS = (2**30, 32 * 2**20)  # older versions accept at most the second


def keep_freed_memory() -> bool:
    """Let this process keep the memory it frees; return False if the C library is not glibc.

    Every training step frees memory that the next one allocates again. By default glibc returns much of it to the
    system, which then clears and maps the pages again: 4 % of the CPU time of a PreResNet-20 step, half the time of
    evaluating DenseNet-40 (``benchmarks/README.md``). Results do not change; memory use stays at its peak.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_TRIM_THRESHOLD, 2**31 - 1)) and any(
        mallopt(_MMAP_THRESHOLD, size) for size in _MMAP_THRESHOLDS
    )
