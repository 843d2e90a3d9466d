"""Compiled CPU kernels for networks of 3×3 convolutions and BatchNorm (speed-ups: ``benchmarks/README.md``).

They compute the same as torch in single precision, in fewer passes over memory and with fewer multiplications, but
round differently. `library` compiles them at first use; without a C compiler, and on GPUs, torch's operations are used.
Results and training states record which were used.

Belongs here: C sources, their compilation and calls. Not here: when a network uses them (`three_regime.tasks`).
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
"""``plain``: torch's operations; ``fused``: compiled kernels; ``sparse``: engine for whole networks (``sparse.h``);
``sparse-winograd``: the engine, with Winograd in layers of high density and at most 64 channels (`Graph.winograd`)."""

_allowed = False


def allow(wanted: Literal["auto", "plain"]) -> None:
    """Set the config value ``kernels`` for tasks made from now on in this process; initially ``plain``."""
    global _allowed
    _allowed = wanted == "auto"


def available(device: torch.device) -> Library | None:
    """The kernels if they are allowed and `device` is a CPU; None: use torch's operations."""
    return library() if _allowed and device.type == "cpu" else None


@functools.cache
def library() -> Library | None:
    """The kernels of this process, compiled if necessary; None, with the reason logged, if that fails."""
    from three_regime.kernels.binding import load
    from three_regime.kernels.building import Unavailable

    try:
        found = load()
    except Unavailable as reason:
        log.info("networks use torch's operations instead of the compiled kernels: %s", reason)
        return None
    log.info("networks use the compiled kernels (config: kernels)")
    return found


def in_use() -> Kernels:
    """Kernels used in this process, for records; networks run by the sparse engine are recorded separately.

    Does not import or compile anything.
    """
    asked_for = _allowed and library.cache_info().currsize > 0
    return "fused" if asked_for and library() is not None else "plain"
