"""Bindings of the compiled kernels as functions of tensors.

All tensors are float32 on the CPU; images (N, C, H, W) are in channels-last memory, weights contiguous. The kernels run
on torch's own OpenMP threads, as many as torch is set to use.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from three_regime.kernels.building import Unavailable, built
from three_regime.kernels.trial import sparse_engine_works

_POINTER, _INT, _LONG, _DOUBLE = ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_double
_ARGUMENTS = {
    "connect_threads": [_POINTER] * 3,
    "norm_relu_forward": [_POINTER] * 2 + [_LONG, _INT] + [_POINTER] * 5 + [_DOUBLE] * 2 + [_INT] * 2,
    "norm_relu_backward": [_POINTER] * 4 + [_LONG, _INT] + [_POINTER] * 3 + [_INT],
    "conv_forward": [_POINTER] * 5 + [_INT] * 6,
    "conv_backward_input": [_POINTER] * 3 + [_INT] * 6,
    "conv_backward_weights": [_POINTER] * 4 + [_INT] * 6,
    "sparse_run": [_POINTER] * 2,
}


def load() -> Library:
    """Load the kernels, compile them if necessary, and check each once against torch.

    Raises
    ------
    Unavailable
        When they cannot be compiled or loaded, torch's threads are not OpenMP threads, or a result is wrong.
    """
    path = built()
    try:
        functions = ctypes.CDLL(str(path))
        openmp = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
        for name, arguments in _ARGUMENTS.items():
            function = getattr(functions, name)
            function.argtypes, function.restype = arguments, None
        team = (openmp.GOMP_parallel, openmp.omp_get_thread_num, openmp.omp_get_num_threads)
    except (OSError, AttributeError) as error:
        raise Unavailable(f"{path} or torch's OpenMP cannot be loaded: {error}") from error
    functions.connect_threads(*(ctypes.cast(function, _POINTER) for function in team))
    library = Library(functions, openmp)
    _try(library)
    return library


class Norm(NamedTuple):
    """BatchNorm of C channels; running `mean` and `variance` are updated in place if `training`."""

    weight: Tensor
    bias: Tensor
    mean: Tensor
    variance: Tensor
    momentum: float
    epsilon: float
    training: bool


@dataclass(frozen=True, eq=False)
class Library:
    """The kernels."""

    functions: ctypes.CDLL
    openmp: ctypes.CDLL

    def norm_relu(self, images: Tensor, norm: Norm) -> tuple[Tensor, Tensor]:
        """BatchNorm and ReLU of `images`, and the norm's coefficients (see `norm_line`)."""
        result = torch.empty_like(images)
        return result, self._norm_relu(images, norm, result)

    def norm_line(self, images: Tensor, norm: Norm) -> Tensor:
        """(4, C): mean and 1 / standard deviation of the batch (if training), slope and shift of each channel."""
        return self._norm_relu(images, norm, None)

    def _norm_relu(self, images: Tensor, norm: Norm, result: Tensor | None) -> Tensor:
        saved = torch.empty(4, images.shape[1])
        self.functions.norm_relu_forward(
            *_at(images, result), *_rows(images), *_at(norm.weight, norm.bias, norm.mean, norm.variance, saved),
            norm.momentum, norm.epsilon, norm.training, torch.get_num_threads(),
        )  # fmt: skip
        return saved

    def norm_relu_backward(
        self, images: Tensor, gradient: Tensor, beside: Tensor | None, saved: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients with respect to images, weight and bias; `beside` is added to that of images."""
        result, of_weight, of_bias = torch.empty_like(images), *torch.empty(2, images.shape[1])
        self.functions.norm_relu_backward(
            *_at(images, gradient, beside, result), *_rows(images), *_at(saved, of_weight, of_bias),
            torch.get_num_threads(),
        )  # fmt: skip
        return result, of_weight, of_bias

    def convolution(self, images: Tensor, saved: Tensor, weight: Tensor, addend: Tensor | None) -> Tensor:
        """3×3 convolution of ReLU(BatchNorm(images)), plus `addend`; stride and padding 1.

        Sides must be multiples of 4, channels of 16.
        """
        result = _images_like(images, len(weight))
        self.functions.conv_forward(*_at(images, saved[2:], weight, addend, result), *_sizes(images, weight))
        return result

    def convolution_backward_images(self, images: Tensor, weight: Tensor, gradient: Tensor) -> Tensor:
        """Gradient of `convolution` with respect to its input, ReLU(BatchNorm(images))."""
        result = torch.empty_like(images)
        self.functions.conv_backward_input(*_at(gradient, weight, result), *_sizes(images, weight))
        return result

    def convolution_backward_weight(self, images: Tensor, saved: Tensor, weight: Tensor, gradient: Tensor) -> Tensor:
        """Gradient of `convolution` with respect to its weight."""
        result = torch.empty_like(weight)
        self.functions.conv_backward_weights(*_at(images, saved[2:], gradient, result), *_sizes(images, weight))
        return result


def _at(*tensors: Tensor | None) -> tuple[int | None, ...]:
    return tuple(None if tensor is None else tensor.data_ptr() for tensor in tensors)


def _rows(images: Tensor) -> tuple[int, int]:
    channels = images.shape[1]
    return images.numel() // channels, channels


def _sizes(images: Tensor, weight: Tensor) -> tuple[int, ...]:
    count, channels, height, width = images.shape
    return count, height, width, channels, len(weight), torch.get_num_threads()


def _images_like(images: Tensor, channels: int) -> Tensor:
    count, _, height, width = images.shape
    return torch.empty((count, channels, height, width), memory_format=torch.channels_last)


def _try(library: Library) -> None:
    """Compare the kernels with torch on a small example, to detect miscompilation."""
    numbers = torch.linspace(0, 60, 3 * 16 * 4 * 8).sin()
    images = numbers.view(3, 16, 4, 8).contiguous(memory_format=torch.channels_last)
    weight = torch.linspace(1, 50, 32 * 16 * 9).cos().view(32, 16, 3, 3)
    scale, shift = weight[0, :, 0, 0].clone(), weight[0, :, 1, 1].clone()
    norm = Norm(scale, shift, torch.zeros(16), torch.ones(16), 0.1, 1e-5, True)
    with torch.enable_grad():
        leaves = [tensor.clone().requires_grad_() for tensor in (images, norm.weight, norm.bias, weight)]
        hidden = torch.relu(torch.batch_norm(*leaves[:3], None, None, True, 0.1, 1e-5, False))
        result = torch.conv2d(hidden, leaves[3], padding=1)
        gradient = result.detach().sin().contiguous(memory_format=torch.channels_last)
        expected = (hidden, result, *torch.autograd.grad(result, leaves, gradient))
    activated, saved = library.norm_relu(images, norm)
    back = library.convolution_backward_images(images, weight, gradient)
    found = (
        activated,
        library.convolution(images, saved, weight, None),
        *library.norm_relu_backward(images, back, None, saved),
        library.convolution_backward_weight(images, saved, weight, gradient),
    )
    alike = [
        torch.allclose(mine, theirs, rtol=1e-3, atol=1e-3 * theirs.abs().max().item())
        for mine, theirs in zip(found, expected, strict=True)
    ]
    if not (all(alike) and sparse_engine_works(library.functions)):
        raise Unavailable("their results differ from torch's; please report the compiler and its version")
