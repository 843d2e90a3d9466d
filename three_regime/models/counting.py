"""Count the layers of each model family from depth and width, without torch.

The counts describe the modules of this package; a test compares them with the built networks. Each
`three_regime.models.families.Family` refers to its function here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

VGG_WIDTHS = (64, 128, 256, 512, 512)
VGG_CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


@dataclass(frozen=True)
class Layer:
    """One layer with parameters.

    Attributes
    ----------
    weights, others
        Number of prunable weights, and of other parameters.
    tensors
        Number of parameter and buffer tensors.
    norm_channels
        Number of channels of a BatchNorm; 0 for other layers.
    multiply_adds
        Multiply-adds per image or token.
    """

    weights: int
    others: int
    tensors: int
    norm_channels: int
    multiply_adds: int


def transformer(depth: int, width: int, vocabulary: int, *, shared: bool = False) -> Iterator[Layer]:
    """Layers of an encoder and a decoder of `depth` layers each; multiply-adds are per token."""
    layer_norm = Layer(0, 2 * width, 2, 0, 0)
    if not shared:
        yield Layer(0, vocabulary * width, 1, 0, 0)  # the encoder's embedding
    yield Layer(0, vocabulary * width, 1, 0, vocabulary * width)  # the decoder's, which is the output projection too
    for attentions in (1, 2):  # encoder, decoder
        for _ in range(depth):
            for _ in range(4 * attentions):
                yield _matrix(width, width)
            yield _matrix(width, 4 * width)
            yield _matrix(4 * width, width)
            for _ in range(1 + attentions):
                yield layer_norm


def _matrix(inputs: int, outputs: int) -> Layer:
    return Layer(inputs * outputs, outputs, 2, 0, inputs * outputs)


def convolution(inputs: int, outputs: int, kernel: int, side: int, *, bias: bool = False) -> Layer:
    """A convolution with square outputs of side `side`."""
    weights = inputs * outputs * kernel**2
    return Layer(weights, outputs * bias, 1 + bias, 0, weights * side**2)


def norm(channels: int) -> Layer:
    """A BatchNorm."""
    return Layer(0, 2 * channels, 5, channels, 0)


def classifier(inputs: int, classes: int) -> Layer:
    """A linear layer with bias, never pruned."""
    return Layer(0, (inputs + 1) * classes, 2, 0, inputs * classes)


def preresnet(depth: int, width: float, classes: int, channels: int, image_size: int) -> Iterator[Layer]:
    """Layers for square images of side `image_size`; `width` is the factor on 16/32/64 channels."""
    base = round(16 * width)
    yield convolution(channels, base, 3, image_size)
    inputs = base
    for stage, outputs in enumerate((base, 2 * base, 4 * base)):
        here = image_size >> stage
        for _ in range((depth - 2) // 6):
            yield norm(inputs)
            yield convolution(inputs, outputs, 3, here)
            yield norm(outputs)
            yield convolution(outputs, outputs, 3, here)
            if inputs != outputs:
                yield convolution(inputs, outputs, 1, here)
            inputs = outputs
    yield norm(inputs)
    yield classifier(inputs, classes)


def vgg(depth: int, width: float, classes: int, channels: int, image_size: int) -> Iterator[Layer]:
    """Layers for square images of side `image_size`; `width` is always 1."""
    inputs = channels
    for group, (count, outputs) in enumerate(zip(VGG_CONVOLUTIONS[depth], VGG_WIDTHS, strict=True)):
        for _ in range(count):
            yield convolution(inputs, outputs, 3, image_size >> group, bias=True)
            yield norm(outputs)
            inputs = outputs
    yield classifier(inputs, classes)


def densenet(depth: int, width: float, classes: int, channels: int, image_size: int) -> Iterator[Layer]:
    """Layers for square images of side `image_size`; `width` is the growth rate."""
    layers, growth = (depth - 4) // 3, int(width)
    widths = [growth * (2 + block * layers) for block in range(4)]
    yield convolution(channels, widths[0], 3, image_size)
    for block, (first, last) in enumerate(pairwise(widths)):
        if block:
            yield norm(first)
            yield convolution(first, first, 1, image_size >> (block - 1))
        for inputs in range(first, last, growth):
            yield norm(inputs)
            yield convolution(inputs, growth, 3, image_size >> block)
    yield norm(widths[-1])
    yield classifier(widths[-1], classes)
