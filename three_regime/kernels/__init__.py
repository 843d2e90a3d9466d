"""Compiled kernels for networks of 3×3 convolutions and BatchNorm on a CPU (``benchmarks/README.md`` has the gain).

They compute in single precision what torch computes, in fewer passes over memory and with fewer multiplications, and
round differently. `library` compiles them at first use; a machine without a C compiler, and every GPU, uses torch's own
operations. Which of the two a run used is recorded with its results and in its training state.
"""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

    from three_regime.kernels.binding import Library

log = logging.getLogger(__name__)

Kernels = Literal["fused", "plain", "sparse", "sparse-winograd"]
"""Compiled operations in the place of torch's; torch's; a whole network by the engine of ``sparse.h``; the same with
Winograd's way for the layers that keep much, all that fit it of a dense network, which rounds differently."""

_allowed = False


def allow(wanted: Literal["auto", "plain"]) -> None:
    """Set, for tasks that this process makes from now on, the config value ``kernels``; at first it is ``plain``."""
    global _allowed
    _allowed = wanted == "auto"


def available(device: torch.device) -> Library | None:
    """The kernels, where they are allowed and `device` is a CPU; None: compute with torch's operations."""
    return library() if _allowed and device.type == "cpu" else None


@functools.cache
def library() -> Library | None:
    """The kernels of this process, compiled if need be; None, with the reason in the log, where that fails."""
    from three_regime.kernels.binding import load
    from three_regime.kernels.building import Unavailable

    try:
        found = load()
    except Unavailable as reason:
        log.info("networks compute with torch alone, without the compiled kernels: %s", reason)
        return None
    log.info("networks compute with the compiled kernels (config: kernels)")
    return found


def in_use() -> Kernels:
    """What networks in this process compute with, for records, unless one is run by the sparse engine.

    Imports nothing and compiles nothing.
    """
    asked_for = _allowed and library.cache_info().currsize > 0
    return "fused" if asked_for and library() is not None else "plain"
