"""The kernels as differentiable functions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from three_regime.kernels.binding import Library


class NormRelu(torch.autograd.Function):
    """BatchNorm and ReLU of images, and the images themselves for a second use.

    The gradient of that use is added in the pass that computes the images' gradient.
    """

    @staticmethod
    def forward(
        ctx: Any,
        library: Library,
        images: Tensor,
        weight: Tensor,
        bias: Tensor,
        statistics: tuple[Tensor, Tensor],
        momentum: float,
        epsilon: float,
        training: bool,
    ) -> tuple[Tensor, Tensor]:
        """`statistics`: running mean and variance, moved in place when `training`."""
        result, saved = library.norm_relu(images, weight, bias, *statistics, momentum, epsilon, training)
        ctx.library = library
        ctx.save_for_backward(images, weight, bias, saved)
        ctx.set_materialize_grads(False)
        return result, images

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor | None, beside: Tensor | None) -> tuple[Tensor | None, ...]:
        """Gradients of training mode."""
        if gradient is None:
            return None, beside, *[None] * 6
        images, weight, bias, saved = ctx.saved_tensors
        beside = None if beside is None else _channels_last(beside)
        gradients = ctx.library.norm_relu_backward(images, _channels_last(gradient), beside, weight, bias, saved)
        return None, *gradients, *[None] * 4


class Convolution(torch.autograd.Function):
    """3×3 convolution of stride 1 and padding 1, plus `addend` (images like the result, or None)."""

    @staticmethod
    def forward(ctx: Any, library: Library, images: Tensor, weight: Tensor, addend: Tensor | None) -> Tensor:
        ctx.library = library
        ctx.save_for_backward(images, weight)
        return library.convolution(images, weight, addend)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        images, weight = ctx.saved_tensors
        gradient = _channels_last(gradient)
        _, images_too, weight_too, addend_too = ctx.needs_input_grad
        return (
            None,
            ctx.library.convolution_backward_images(images, weight, gradient) if images_too else None,
            ctx.library.convolution_backward_weight(images, weight, gradient) if weight_too else None,
            gradient if addend_too else None,
        )


def _channels_last(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last)
