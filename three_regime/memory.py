"""Memory of large tensors on the CPU: kept for the next step instead of given back to the system."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # names in glibc's malloc.h
_LARGEST_MMAP_THRESHOLD = 32 * 2**20  # what every glibc accepts


def keep_freed_memory() -> bool:
    """Let this process keep the memory that it frees; False where the C library is not glibc.

    Every training step frees what the next one allocates again. By default glibc gives much of it back to the system,
    which clears and maps the pages anew: 7 to 13 ms of processor time in a PreResNet-20 step of 200 ms, with this
    0.6 ms (``benchmarks/README.md``). Numbers do not change; memory in use stays at its highest mark.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return all([mallopt(_TRIM_THRESHOLD, 2**31 - 1), mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)])
