"""Memory of large tensors on the CPU: kept for the next step instead of given back to the system."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # names in glibc's malloc.h
_MMAP_THRESHOLDS = (2**30, 32 * 2**20)  # older versions accept no more than the second


def keep_freed_memory() -> bool:
    """Let this process keep the memory that it frees; False where the C library is not glibc.

    Every training step frees what the next one allocates again. By default glibc gives much of it back to the system,
    which clears and maps the pages anew: 4 % of the processor time of a PreResNet-20 step, half the time of evaluating
    DenseNet-40 (``benchmarks/README.md``). Numbers do not change; memory in use stays at its highest mark.
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
