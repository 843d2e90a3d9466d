"""Dropout with masks that depend only on a seed, not on torch's global generators."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_LEVELS = 1 << 16


class Dropout:
    """Dropout with its own random generator; each call draws the next mask.

    On a CPU, 16 random bits decide each element, a quarter of what torch draws: the rate is rounded to a multiple of
    2⁻¹⁶, and kept elements are scaled accordingly.

    Parameters
    ----------
    rate
        Probability that an element is set to zero; 0 disables dropout.
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
        if not self.rate:
            return x
        mask, scale = self._mask(x), 1 / (1 - self.rate)
        if x.dtype == torch.float32:
            return x * mask.mul_(scale)
        return (x * mask).mul_(scale)  # the scale itself, rounded to bfloat16, would be off by up to 0.2 %

    def _mask(self, x: Tensor) -> Tensor:
        """Mask of the shape of `x`: 0 for dropped elements, 1 elsewhere."""
        if x.device.type != "cpu":
            return torch.empty_like(x).bernoulli_(1 - self.rate, generator=self._generator)
        size = x.numel()
        drawn = self._bits.integers(0, 2**64 - 1, -(-size // 4), dtype=np.uint64, endpoint=True)
        levels = torch.from_numpy(drawn.view(np.int16)[:size]).view(x.shape)
        return (levels >= round(self.rate * _LEVELS) - _LEVELS // 2).to(x.dtype)
