"""Layers shared by networks: torch's, with optional compiled CPU kernels (``three_regime.kernels``).

Names of parameters and buffers are torch's. Until `use_kernels` is called, and where the kernels do not apply (GPU,
`torch.func` transforms, other dtypes, shapes or memory formats), they use torch's operations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from three_regime.kernels.binding import Library, Norm

MOST_CHANNELS = 256
"""Above this, transformed filters and their gradients fill the L3 cache (``benchmarks/README.md``)."""


class NormRelu(nn.BatchNorm2d):
    """BatchNorm, then ReLU."""

    kernels: Library | None = None

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) → the same shape."""
        if not self._computes(images):
            # In place: BatchNorm's gradient does not need its output.
            return F.relu(super().forward(images), inplace=True)
        from three_regime.kernels import functions

        return functions.NormRelu.apply(self.kernels, images, self.weight, self.bias, self._norm())

    def convolved(
        self, convolution: Convolution3x3, images: Tensor, addend: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """`convolution` applied to this layer's output, plus `addend`; and `images`, for a shortcut around both.

        If a fused kernel computes both, the gradient of the shortcut needs no extra pass, and the modules are not
        called, so their hooks do not run.
        """
        if not (self._computes(images) and convolution.fits(images)):
            result = convolution(self(images))
            return (result if addend is None else result + addend), images
        from three_regime.kernels import functions

        if addend is not None:
            addend = addend.contiguous(memory_format=torch.channels_last)
        weight, norm = convolution.weight.contiguous(), self._norm()
        if not torch.is_grad_enabled():  # avoids autograd's overhead, 0.3 ms per pass of PreResNet-20
            return self.kernels.convolution(images, self.kernels.norm_line(images, norm), weight, addend), images
        return functions.NormReluConvolution.apply(self.kernels, images, self.weight, self.bias, weight, addend, norm)

    def _computes(self, images: Tensor) -> bool:
        differentiable = self.training or not torch.is_grad_enabled()
        several = images.numel() > images.shape[1]
        return self.kernels is not None and _fits(images) and differentiable and several

    def _norm(self) -> Norm:
        from three_regime.kernels.binding import Norm

        if self.training:
            self.num_batches_tracked.add_(1)
        statistics = self.running_mean, self.running_var
        return Norm(self.weight, self.bias, *statistics, self.momentum, self.eps, self.training)


class Convolution3x3(nn.Conv2d):
    """3×3 convolution with padding 1 and without bias.

    Parameters
    ----------
    inputs, outputs
        Channels.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__(inputs, outputs, 3, stride, padding=1, bias=False)

    def fits(self, images: Tensor) -> bool:
        """Whether a kernel supports this convolution of (N, inputs, H, W)."""
        channels = self.in_channels, self.out_channels
        sides = images.shape[2:]
        return (
            self.stride == (1, 1)
            and all(count % 16 == 0 and count <= MOST_CHANNELS for count in channels)
            and all(side % 4 == 0 for side in sides)
        )


FEWEST_STRIDED = 8
"""Input channels below which torch 2.13 must not compute a strided 1×1 convolution: on a CPU with AVX2 but without
AVX-512, the weight gradient for channels-last images is wrong and is written out of bounds."""


class Shortcut(nn.Conv2d):
    """1×1 convolution with `stride`, without bias.

    Parameters
    ----------
    inputs, outputs
        Channels.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__(inputs, outputs, 1, stride, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """(N, inputs, H, W) → (N, outputs, ⌈H / stride⌉, ⌈W / stride⌉)."""
        down, right = self.stride
        if self.in_channels >= FEWEST_STRIDED or (down, right) == (1, 1):
            return super().forward(images)
        return F.conv2d(images[:, :, ::down, ::right], self.weight)


def use_kernels(model: nn.Module, kernels: Library | None) -> None:
    """Let the layers of `model` use `kernels`; None: torch's operations."""
    for module in model.modules():
        if isinstance(module, NormRelu):
            module.kernels = kernels


def _fits(images: Tensor) -> bool:
    return (
        images.device.type == "cpu"
        and images.dtype == torch.float32
        and torch._C._functorch.peek_interpreter_stack() is None  # no `torch.func` transform is active
        and not torch.is_autocast_enabled("cpu")
        and images.is_contiguous(memory_format=torch.channels_last)
    )
