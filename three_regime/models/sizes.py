"""Sizes of networks from their names alone: parameters, buffers and multiply-adds, without torch.

The layers are those of the modules beside this one; a test compares every number with the built network.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from three_regime.errors import UserError
from three_regime.models import ModelSpec, parse

VGG_WIDTHS = (64, 128, 256, 512, 512)
VGG_CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


@dataclass(frozen=True)
class Layer:
    """One layer with parameters.

    Attributes
    ----------
    weights, others
        Elements that pruning may remove, and the other parameters.
    tensors
        Number of parameter and buffer tensors.
    norm_channels
        Channels of a BatchNorm, else 0.
    multiply_adds
        Per image.
    """

    weights: int
    others: int
    tensors: int
    norm_channels: int
    multiply_adds: int


@dataclass(frozen=True)
class Size:
    """Sizes of a whole network.

    Attributes
    ----------
    parameters, prunable
        Elements of all parameters, and of those that pruning may remove.
    tensors, prunable_tensors
        Number of parameters and buffers, and of prunable weights.
    buffer_bytes
        Running means and variances (float32) and batch counters (int64).
    multiply_adds
        Of one image (convolutions and classifier) or one token (matrices and output) forward.
    """

    parameters: int
    prunable: int
    tensors: int
    prunable_tensors: int
    buffer_bytes: int
    multiply_adds: int


def size(model: ModelSpec | str, *, classes: int, channels: int, image_size: int) -> Size:
    """Size of a network for square images of side `image_size` with so many colour channels.

    Raises
    ------
    UserError
        When the name is not valid.
    """
    spec = parse(model) if isinstance(model, str) else model
    if spec.kind != "images":
        raise UserError(f"model {spec.name} is not one for images")
    layers = list({"preresnet": _preresnet, "vgg": _vgg, "densenet": _densenet}[spec.family](
        spec, classes, channels, image_size
    ))  # fmt: skip
    return _sum(layers)


def text_size(model: ModelSpec | str, *, vocabulary: int) -> Size:
    """Size of a Transformer whose joint dictionary has `vocabulary` entries; `multiply_adds` are those of one target
    token with one source token beside it (attention's own products, which grow with the sentence, are left out).

    Raises
    ------
    UserError
        When the name is not valid, or is not one of a network for text.
    """
    spec = parse(model) if isinstance(model, str) else model
    if spec.kind != "text":
        raise UserError(f"model {spec.name} is not one for text")
    return _sum(list(_transformer(spec, vocabulary)))


def _sum(layers: list[Layer]) -> Size:
    return Size(
        parameters=sum(layer.weights + layer.others for layer in layers),
        prunable=sum(layer.weights for layer in layers),
        tensors=sum(layer.tensors for layer in layers),
        prunable_tensors=sum(layer.weights > 0 for layer in layers),
        buffer_bytes=sum(8 * layer.norm_channels + 8 for layer in layers if layer.norm_channels),
        multiply_adds=sum(layer.multiply_adds for layer in layers),
    )


def _transformer(spec: ModelSpec, vocabulary: int) -> Iterator[Layer]:
    width, norm = int(spec.width), Layer(0, 2 * int(spec.width), 2, 0, 0)
    yield Layer(0, vocabulary * width, 1, 0, 0)  # the encoder's embedding
    yield Layer(0, vocabulary * width, 1, 0, vocabulary * width)  # the decoder's, and its output
    for attentions in (1, 2):  # encoder, decoder
        for _ in range(spec.depth):
            for _ in range(4 * attentions):
                yield _matrix(width, width)
            yield _matrix(width, 4 * width)
            yield _matrix(4 * width, width)
            for _ in range(1 + attentions):
                yield norm


def _matrix(inputs: int, outputs: int) -> Layer:
    return Layer(inputs * outputs, outputs, 2, 0, inputs * outputs)


def _convolution(inputs: int, outputs: int, kernel: int, side: int, *, bias: bool = False) -> Layer:
    """`side` is that of the output."""
    weights = inputs * outputs * kernel**2
    return Layer(weights, outputs * bias, 1 + bias, 0, weights * side**2)


def _norm(channels: int) -> Layer:
    return Layer(0, 2 * channels, 5, channels, 0)


def _classifier(inputs: int, classes: int) -> Layer:
    return Layer(0, (inputs + 1) * classes, 2, 0, inputs * classes)


def _preresnet(spec: ModelSpec, classes: int, channels: int, side: int) -> Iterator[Layer]:
    base = round(16 * spec.width)
    yield _convolution(channels, base, 3, side)
    inputs = base
    for stage, outputs in enumerate((base, 2 * base, 4 * base)):
        here = side >> stage
        for _ in range((spec.depth - 2) // 6):
            yield _norm(inputs)
            yield _convolution(inputs, outputs, 3, here)
            yield _norm(outputs)
            yield _convolution(outputs, outputs, 3, here)
            if inputs != outputs:
                yield _convolution(inputs, outputs, 1, here)
            inputs = outputs
    yield _norm(inputs)
    yield _classifier(inputs, classes)


def _vgg(spec: ModelSpec, classes: int, channels: int, side: int) -> Iterator[Layer]:
    inputs = channels
    for group, (count, width) in enumerate(zip(VGG_CONVOLUTIONS[spec.depth], VGG_WIDTHS, strict=True)):
        for _ in range(count):
            yield _convolution(inputs, width, 3, side >> group, bias=True)
            yield _norm(width)
            inputs = width
    yield _classifier(inputs, classes)


def _densenet(spec: ModelSpec, classes: int, channels: int, side: int) -> Iterator[Layer]:
    layers, growth = (spec.depth - 4) // 3, int(spec.width)
    widths = [growth * (2 + block * layers) for block in range(4)]
    yield _convolution(channels, widths[0], 3, side)
    for block, (first, last) in enumerate(pairwise(widths)):
        if block:
            yield _norm(first)
            yield _convolution(first, first, 1, side >> (block - 1))
        for inputs in range(first, last, growth):
            yield _norm(inputs)
            yield _convolution(inputs, growth, 3, side >> block)
    yield _norm(widths[-1])
    yield _classifier(widths[-1], classes)
