"""Layers that networks share: torch's own, with a second way of computing on a CPU (``three_regime.kernels``).

Names of parameters and buffers are torch's. Until `use_kernels` is called, and wherever the kernels do not apply (a
GPU, `torch.func` transforms, other types, shapes or memory formats), they compute with torch's operations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from three_regime.kernels.binding import Library

MOST_CHANNELS = 128
"""Above this the transformed filters do not fit the second cache, and torch's convolutions are as fast."""


class NormRelu(nn.BatchNorm2d):
    """BatchNorm, then ReLU."""

    kernels: Library | None = None

    def forward(self, images: Tensor, branch: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """(N, C, H, W) → the same shape; with `branch` also `images`, for a shortcut around the layer.

        The gradient of that shortcut then costs no pass of its own.
        """
        result, images = self._result_and_images(images)
        return (result, images) if branch else result

    def _result_and_images(self, images: Tensor) -> tuple[Tensor, Tensor]:
        differentiable = self.training or not torch.is_grad_enabled()
        several = images.numel() > images.shape[1]
        if self.kernels is None or not (_fits(images) and differentiable and several):
            # In place: BatchNorm's gradient does not need its output.
            return F.relu(super().forward(images), inplace=True), images
        from three_regime.kernels import functions

        if self.training:
            self.num_batches_tracked.add_(1)
        statistics = self.running_mean, self.running_var
        return functions.NormRelu.apply(
            self.kernels, images, self.weight, self.bias, statistics, self.momentum, self.eps, self.training
        )


class Convolution3x3(nn.Conv2d):
    """3×3 convolution with padding 1 and without bias.

    Parameters
    ----------
    inputs, outputs
        Channels.
    """

    kernels: Library | None = None

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__(inputs, outputs, 3, stride, padding=1, bias=False)

    def forward(self, images: Tensor, addend: Tensor | None = None) -> Tensor:
        """(N, inputs, H, W) → (N, outputs, H / stride, W / stride), plus `addend`."""
        if self.kernels is None or not (self._suits and _tiled(images) and _fits(images)):
            result = super().forward(images)
            return result if addend is None else result + addend
        from three_regime.kernels import functions

        if addend is not None:
            addend = addend.contiguous(memory_format=torch.channels_last)
        return functions.Convolution.apply(self.kernels, images, self.weight.contiguous(), addend)

    @property
    def _suits(self) -> bool:
        channels = self.in_channels, self.out_channels
        return self.stride == (1, 1) and all(count % 16 == 0 and count <= MOST_CHANNELS for count in channels)


def use_kernels(model: nn.Module, kernels: Library | None) -> None:
    """Let the layers of `model` compute with `kernels`; None: with torch's operations."""
    for module in model.modules():
        if isinstance(module, NormRelu | Convolution3x3):
            module.kernels = kernels


def _tiled(images: Tensor) -> bool:
    return images.shape[2] % 4 == 0 and images.shape[3] % 4 == 0


def _fits(images: Tensor) -> bool:
    return (
        images.device.type == "cpu"
        and images.dtype == torch.float32
        and torch._C._functorch.peek_interpreter_stack() is None  # no transform, of weights or images
        and not torch.is_autocast_enabled("cpu")
        and images.is_contiguous(memory_format=torch.channels_last)
    )
