"""Sizes of networks from their names alone: parameters, buffers and multiply-adds, without torch.

The layers are those that a family counts (`three_regime.models.counting`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from three_regime.models import counting
from three_regime.models.families import FAMILIES, ModelSpec, parse_for


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


UNCOUNTED = Size(0, 0, 0, 0, 0, 0)
"""Stands for the size of a network whose family does not count its layers."""


def size(model: ModelSpec | str, *, classes: int, channels: int, image_size: int) -> Size | None:
    """Size of a network for square images of side `image_size` with so many colour channels.

    None when its family does not count its layers (`three_regime.models.families.Family`).

    Raises
    ------
    UserError
        When the name is not valid.
    """
    spec = parse_for("images", model)
    layers = FAMILIES[spec.family].layers
    return layers and _sum(layers(spec.depth, spec.width, classes, channels, image_size))


def text_size(model: ModelSpec | str, *, vocabulary: int) -> Size:
    """Size of a Transformer whose joint dictionary has `vocabulary` entries; `multiply_adds` are those of one target
    token with one source token beside it (attention's own products, which grow with the sentence, are left out).

    Raises
    ------
    UserError
        When the name is not valid, or is not one of a network for text.
    """
    spec = parse_for("text", model)
    return _sum(counting.transformer(spec.depth, int(spec.width), vocabulary, shared=spec.shared))


def _sum(layers: Iterable[counting.Layer]) -> Size:
    layers = list(layers)
    return Size(
        parameters=sum(layer.weights + layer.others for layer in layers),
        prunable=sum(layer.weights for layer in layers),
        tensors=sum(layer.tensors for layer in layers),
        prunable_tensors=sum(layer.weights > 0 for layer in layers),
        buffer_bytes=sum(8 * layer.norm_channels + 8 for layer in layers if layer.norm_channels),
        multiply_adds=sum(layer.multiply_adds for layer in layers),
    )
