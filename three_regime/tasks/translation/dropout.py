"""Dropout whose masks depend on a seed alone, without torch's global generators."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_LEVELS = 1 << 16


class Dropout:
    """Masks drawn one after another from a generator of its own.

    On a CPU a number is dropped by 16 random bits, because torch draws for each number what serves four of them: the
    rate is that of the nearest multiple of 2⁻¹⁶, and what is kept is scaled accordingly.

    Parameters
    ----------
    rate
        Probability that a number is set to zero; 0 changes nothing.
    """

    def __init__(self, rate: float, seed: int, device: torch.device) -> None:
        self.rate = round(rate * _LEVELS) / _LEVELS if device.type == "cpu" else rate
        if not self.rate:
            return
        if device.type == "cpu":
            self._bits = np.random.Generator(np.random.SFC64(seed))
        else:
            self._generator = torch.Generator(device).manual_seed(seed)

    def __call__(self, x: Tensor) -> Tensor:
        return x * self._mask(x) if self.rate else x

    def _mask(self, x: Tensor) -> Tensor:
        """Zeros, and 1 / (1 − rate) elsewhere; shaped as `x`."""
        keep = 1 - self.rate
        if x.device.type != "cpu":
            return torch.empty_like(x).bernoulli_(keep, generator=self._generator).div_(keep)
        size = x.numel()
        drawn = self._bits.integers(0, 2**64 - 1, -(-size // 4), dtype=np.uint64, endpoint=True)
        levels = torch.from_numpy(drawn.view(np.int16)[:size]).view(x.shape)
        return (levels >= round(self.rate * _LEVELS) - _LEVELS // 2).to(x.dtype).mul_(1 / keep)
