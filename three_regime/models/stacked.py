"""Compute several networks of one architecture as a single wide one, for packs that advance in lock-step.

Activations of M networks are concatenated along channels, (N, M · C, H, W). Convolutions become grouped; BatchNorm
already works per channel; layers without weights need no change. The network's own ``forward`` is called with wide
weights, while a torch function mode rewrites the few operations that would mix the members.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.overrides import TorchFunctionMode

LANES = 8
"""Channels that torch's CPU BatchNorm processes at once; an incomplete group is rounded differently. With a multiple
of it, and at least two members, no member's numbers depend on its pack (tested, not guaranteed by torch)."""


class _SideBySide(TorchFunctionMode):
    """Rewrite operations that mix channels, for `members` networks side by side."""

    def __init__(self, members: int) -> None:
        super().__init__()
        self._rewritten: dict[Callable, Callable] = {
            torch.conv2d: functools.partial(_convolution, members),
            F.linear: functools.partial(_linear, members),
            torch.cat: functools.partial(_cat, members),
        }

    def __torch_function__(
        self, function: Callable, types: Any, args: tuple = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return self._rewritten.get(function, function)(*args, **(kwargs or {}))


def _convolution(
    members: int, images: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0,
    dilation: Any = 1, groups: int = 1,
) -> Tensor:  # fmt: skip
    return torch.conv2d(images, weight, bias, stride, padding, dilation, groups * members)


def _linear(members: int, features: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """(N, M · F) and (M, O, F) → (N, M · O)."""
    batch = len(features)
    products = torch.bmm(features.view(batch, members, -1).transpose(0, 1), weight.transpose(1, 2))
    if bias is not None:
        products = _AddBias.apply(products, bias.view(members, -1))
    return products.transpose(0, 1).reshape(batch, -1)


class _AddBias(torch.autograd.Function):
    """(M, N, O) + (M, O); the bias gradient is summed per member, because rounding of a joint sum depends on M."""

    @staticmethod
    def forward(_context: Any, products: Tensor, bias: Tensor) -> Tensor:
        return products + bias[:, None]

    @staticmethod
    def backward(_context: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        gradient = gradient.contiguous()
        return gradient, torch.stack([member.sum(0) for member in gradient])


def _cat(members: int, tensors: tuple[Tensor, ...] | list[Tensor], dim: int = 0) -> Tensor:
    if dim != 1:
        raise TypeError(f"concatenation along dimension {dim} in a network")
    apart = [tensor.unflatten(1, (members, -1)) for tensor in tensors]
    return torch.cat(apart, 2).flatten(1, 2)


class StackedNetwork:
    """M networks of the architecture of `network`, computed together.

    Parameters
    ----------
    network
        Module of the architecture; its mode and BatchNorm momenta are used, its weights are not.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
        widths = {norm.num_features for norm in self.norms}
        self._step = next(step for step in (1, 2, 4, 8) if all(step * width % LANES == 0 for width in widths))

    def rows(self, members: int) -> int:
        """Number of networks to compute (≥ `members`) so no member's numbers depend on the others."""
        return max(2, -(-members // self._step) * self._step)

    def __call__(self, weights: Mapping[str, Tensor], images: Tensor) -> Tensor:
        """Logits, (M, N, classes).

        Parameters
        ----------
        weights
            Parameters and buffers, each with a leading dimension M; buffers are updated in training mode.
        images
            (N, M · channels, H, W), grouped by member.
        """
        members = len(next(iter(weights.values())))
        wide = {name: _wide(value) for name, value in weights.items()}
        with _SideBySide(members):
            logits = functional_call(self.network, wide, (images,), tie_weights=False)
        return logits.view(len(images), members, -1).transpose(0, 1)


def _wide(value: Tensor) -> Tensor:
    """Merge M into the channels of filters (M, O, C, h, w) and vectors (M, C); keep matrices (M, O, F) and counters."""
    return value.flatten(0, 1) if value.ndim in (2, 5) else value
