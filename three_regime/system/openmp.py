"""How long OpenMP's threads spin at the end of a parallel region before they sleep."""

from __future__ import annotations

import os

SPINS = 1000
"""About a microsecond. By default it is milliseconds, a time slice that a thread takes from the one it waits for."""


def spin_briefly() -> None:
    """Let the threads of this process give way to other programs soon, unless ``GOMP_SPINCOUNT`` says otherwise.

    To be called before torch is imported. Beside one busy process on two cores a training step of PreResNet-20 then
    takes 136 ms instead of 560; on idle cores nothing changes (``benchmarks/README.md``).
    """
    os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))
