"""Autograd functions of the compiled kernels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from three_regime.kernels.binding import Library, Norm


class NormRelu(torch.autograd.Function):
    """BatchNorm and ReLU of images."""

    @staticmethod
    def forward(ctx: Any, library: Library, images: Tensor, weight: Tensor, bias: Tensor, norm: Norm) -> Tensor:
        """`weight` and `bias` are those of `norm`, passed separately because autograd only tracks arguments."""
        result, saved = library.norm_relu(images, norm)
        ctx.library = library
        ctx.save_for_backward(images, saved)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients in training mode."""
        images, saved = ctx.saved_tensors
        return None, *ctx.library.norm_relu_backward(images, _channels_last(gradient), None, saved), None


class NormReluConvolution(torch.autograd.Function):
    """3×3 convolution (stride and padding 1) of ReLU(BatchNorm(images)), plus `addend`.

    The convolution's input is never stored: each pass recomputes it from the images. The images are returned as well,
    for a shortcut: its gradient is added in the pass that computes the images' gradient.
    """

    @staticmethod
    def forward(
        ctx: Any,
        library: Library,
        images: Tensor,
        norm_weight: Tensor,
        norm_bias: Tensor,
        weight: Tensor,
        addend: Tensor | None,
        norm: Norm,
    ) -> tuple[Tensor, Tensor]:
        """`norm_weight` and `norm_bias` are those of `norm`; `addend` has the shape of the result."""
        saved = library.norm_line(images, norm)
        ctx.library = library
        ctx.save_for_backward(images, weight, saved)
        ctx.set_materialize_grads(False)
        return library.convolution(images, saved, weight, addend), images

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor | None, beside: Tensor | None) -> tuple[Tensor | None, ...]:
        """Gradients in training mode."""
        if gradient is None:
            return None, beside, *[None] * 5
        images, weight, saved = ctx.saved_tensors
        library, gradient = ctx.library, _channels_last(gradient)
        behind = library.convolution_backward_images(images, weight, gradient)
        gradients = library.norm_relu_backward(images, behind, _channels_last(beside), saved)
        of_weight = library.convolution_backward_weight(images, saved, weight, gradient)
        return None, *gradients, of_weight, gradient if ctx.needs_input_grad[5] else None, None


def _channels_last(images: Tensor | None) -> Tensor | None:
    return None if images is None else images.contiguous(memory_format=torch.channels_last)
